"""Pictures of matches."""

from __future__ import annotations

import cv2
import numpy as np

#: Lines that are drawn at most; more cannot be told apart.
MAX_LINES = 200
GREEN, RED = (0, 200, 0), (220, 0, 0)


def to_colours(image: np.ndarray) -> np.ndarray:
    """RGB uint8 ``(H, W, 3)`` of a grey or RGB image of any type."""
    if np.issubdtype(image.dtype, np.floating):
        image = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    elif image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, 2)
    return np.ascontiguousarray(image[..., :3] if image.shape[2] > 1 else image.repeat(3, 2))


def draw_matches(
    image0: np.ndarray,
    image1: np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray,
    confidence: np.ndarray | None = None,
    right: np.ndarray | None = None,
) -> np.ndarray:
    """Draw two images beside each other with lines between their matches.

    Args:
        image0 (np.ndarray): Grey or RGB.
        image1 (np.ndarray): Grey or RGB, of any size.
        points0 (np.ndarray): ``(M, 2)`` in image 0.
        points1 (np.ndarray): ``(M, 2)`` in image 1.
        confidence (np.ndarray, optional): ``(M,)``, by which lines are coloured.
        right (np.ndarray, optional): Boolean ``(M,)``: right matches are green, others red.

    Returns:
        np.ndarray: RGB uint8; at most :data:`MAX_LINES` matches are drawn, evenly taken.
    """
    first, second = to_colours(image0), to_colours(image1)
    height = max(len(first), len(second))
    canvas = np.zeros((height, first.shape[1] + second.shape[1], 3), np.uint8)
    canvas[: len(first), : first.shape[1]] = first
    canvas[: len(second), first.shape[1] :] = second
    width = max(1, round(height / 600))
    step = max(1, -(-len(points0) // MAX_LINES))
    for index in range(0, len(points0), step):
        if right is not None:
            colour = GREEN if right[index] else RED
        else:
            value = 1.0 if confidence is None else float(confidence[index])
            level = np.full((1, 1), round(255 * value), np.uint8)
            blue, green, red = cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)[0, 0].tolist()
            colour = (red, green, blue)
        ends = [
            tuple(round(float(c)) for c in point)
            for point in (points0[index], points1[index] + [first.shape[1], 0])
        ]
        cv2.line(canvas, ends[0], ends[1], colour, width, cv2.LINE_AA)
        for end in ends:
            cv2.circle(canvas, end, 2 * width, colour, -1, cv2.LINE_AA)
    return canvas


def draw_overlay(image0: np.ndarray, image1: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Blend image 1 with image 0 warped onto it.

    Args:
        image0 (np.ndarray): Grey or RGB.
        image1 (np.ndarray): Grey or RGB.
        homography (np.ndarray): ``(3, 3)`` from image 0 to image 1.

    Returns:
        np.ndarray: RGB uint8 of the size of image 1.
    """
    first, second = to_colours(image0), to_colours(image1)
    H, W = second.shape[:2]
    warped = cv2.warpPerspective(first, np.asarray(homography, np.float64), (W, H))
    inside = cv2.warpPerspective(
        np.ones(first.shape[:2], np.uint8), np.asarray(homography, np.float64), (W, H)
    )
    blend = cv2.addWeighted(warped, 0.5, second, 0.5, 0)
    return np.where(inside[..., None] > 0, blend, second)
