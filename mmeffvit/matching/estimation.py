"""Homography and relative pose from matched points, with the settings of published evaluations."""

from __future__ import annotations

import cv2
import numpy as np

#: Fewest matches from which a pose is estimated.
LEAST_MATCHES = 5
SEED = 0


def estimate_pose(
    points0: np.ndarray,
    points1: np.ndarray,
    intrinsics0: np.ndarray,
    intrinsics1: np.ndarray,
    threshold: float = 0.5,
    confidence: float = 0.99999,
    estimator: str = 'opencv',
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Estimate the relative pose of two cameras.

    OpenCV's essential matrix by RANSAC, whose candidate with most points in front of both cameras
    wins, as in LoFTR's and SuperGlue's evaluation. The random numbers are seeded.

    Args:
        points0 (np.ndarray): ``(N, 2)`` in pixels of image 0.
        points1 (np.ndarray): ``(N, 2)`` in pixels of image 1.
        intrinsics0 (np.ndarray): ``(3, 3)``.
        intrinsics1 (np.ndarray): ``(3, 3)``.
        threshold (float): Reprojection threshold in pixels.
        confidence (float): Wanted probability of a right model.
        estimator (str): ``'opencv'`` or ``'poselib'``, if that is installed; its figures are not
            comparable.

    Returns:
        tuple | None: Rotation ``(3, 3)`` and translation ``(3,)`` of unit length from camera 0 to
        camera 1, and the boolean inliers ``(N,)``; None without a pose.

    Raises:
        ValueError: If the estimator is none of these.
    """
    if estimator not in ('opencv', 'poselib'):
        raise ValueError(f"estimator={estimator!r} must be 'opencv' or 'poselib'.")
    if len(points0) < LEAST_MATCHES:
        return None
    K0, K1 = (np.asarray(K, np.float64) for K in (intrinsics0, intrinsics1))
    if estimator == 'poselib':
        return _estimate_by_poselib(points0, points1, K0, K1, threshold)
    # fx of image 0 and fy of image 1, as in the published code.
    normalised_threshold = float(threshold / np.mean([K0[0, 0], K1[1, 1]]))
    first, second = (
        np.ascontiguousarray((np.asarray(points, np.float64) - K[[0, 1], 2]) / K[[0, 1], [0, 1]])
        for points, K in ((points0, K0), (points1, K1))
    )
    cv2.setRNGSeed(SEED)
    essential, mask = cv2.findEssentialMat(
        first, second, np.eye(3), cv2.RANSAC, confidence, normalised_threshold
    )
    if essential is None:
        return None
    best, result = 0, None
    for candidate in np.split(essential, len(essential) // 3):
        count, R, t, inliers = cv2.recoverPose(
            candidate, first, second, np.eye(3), 1e9, mask=mask.copy()
        )[:4]
        if count > best:
            best, result = count, (R, t[:, 0], inliers.ravel() > 0)
    return result


def _estimate_by_poselib(
    points0: np.ndarray, points1: np.ndarray, K0: np.ndarray, K1: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    from ..utils.requirements import require

    require('poselib')
    import poselib  # pyright: ignore[reportMissingImports]

    cameras = [
        dict(
            model='PINHOLE',
            width=int(2 * K[0, 2]),
            height=int(2 * K[1, 2]),
            params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]],
        )
        for K in (K0, K1)
    ]
    pose, info = poselib.estimate_relative_pose(
        np.asarray(points0, np.float64),
        np.asarray(points1, np.float64),
        *cameras,
        dict(max_epipolar_error=threshold, seed=SEED),
    )
    t = np.asarray(pose.t)
    norm = np.linalg.norm(t)
    return None if norm == 0 else (pose.R, t / norm, np.asarray(info['inliers'], bool))


def estimate_homography(
    points0: np.ndarray, points1: np.ndarray, threshold: float = 3.0
) -> np.ndarray | None:
    """Homography ``(3, 3)`` from image 0 to image 1 by OpenCV's RANSAC; None without one.

    Args:
        points0 (np.ndarray): ``(N, 2)`` in image 0.
        points1 (np.ndarray): ``(N, 2)`` in image 1.
        threshold (float): Reprojection threshold in pixels.
    """
    if len(points0) < 4:
        return None
    cv2.setRNGSeed(SEED)
    first, second = (np.ascontiguousarray(points, np.float64) for points in (points0, points1))
    return cv2.findHomography(first, second, cv2.RANSAC, threshold)[0]


def pose_errors(R: np.ndarray, t: np.ndarray, true_pose: np.ndarray) -> tuple[float, float]:
    """Errors of a relative pose in degrees.

    Args:
        R (np.ndarray): Estimated rotation ``(3, 3)``.
        t (np.ndarray): Estimated translation ``(3,)``, of any length and sign.
        true_pose (np.ndarray): ``(4, 4)``.

    Returns:
        tuple: Error of the rotation, and of the direction of the translation, folded to [0, 90].
    """
    true_R, true_t = true_pose[:3, :3], true_pose[:3, 3]
    cosine = (np.trace(R.T @ true_R) - 1) / 2
    rotation = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    cosine = t @ true_t / (np.linalg.norm(t) * np.linalg.norm(true_t))
    translation = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return float(rotation), float(min(translation, 180 - translation))


def corner_error(homography: np.ndarray | None, true: np.ndarray, size: tuple[int, int]) -> float:
    """Mean distance in pixels of the corners of image 0, mapped by two homographies.

    Args:
        homography (np.ndarray | None): Estimate; None counts as infinitely wrong.
        true (np.ndarray): True homography ``(3, 3)``.
        size (tuple[int, int]): ``(height, width)`` of image 0.
    """
    if homography is None:
        return float('inf')
    H, W = size
    corners = np.array([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]], np.float64)[None]
    found, wanted = (
        cv2.perspectiveTransform(corners, np.asarray(matrix, np.float64))[0]
        for matrix in (homography, true)
    )
    return float(np.linalg.norm(found - wanted, axis=1).mean())
