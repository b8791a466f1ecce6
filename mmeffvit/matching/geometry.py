"""Where a point of one image is in the other."""

from __future__ import annotations

import torch
from torch import Tensor

#: Added to the depth before dividing by it, as in the authors' code.
DEPTH_EPS = 1e-4


def to_homogeneous(points: Tensor) -> Tensor:
    """Append a one to points ``(N, 2)``."""
    return torch.cat([points, torch.ones_like(points[:, :1])], 1)


def warp_by_homography(points: Tensor, homography: Tensor) -> Tensor:
    """Map points ``(N, 2)`` by a homography ``(3, 3)``."""
    mapped = to_homogeneous(points) @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def warp_by_depth(
    points: Tensor, depth: Tensor, intrinsics0: Tensor, intrinsics1: Tensor, pose: Tensor
) -> Tensor:
    """Map points to the other view by the depth at the nearest pixel.

    Args:
        points (Tensor): ``(N, 2)`` in pixels of the view with the depth.
        depth (Tensor): ``(H, W)``. Points of zero depth become the image of the camera's centre.
        intrinsics0 (Tensor): ``(3, 3)`` of this view.
        intrinsics1 (Tensor): ``(3, 3)`` of the other view.
        pose (Tensor): ``(4, 4)`` or ``(3, 4)`` from this camera to the other.

    Returns:
        Tensor: ``(N, 2)`` in pixels of the other view.
    """
    H, W = depth.shape
    x, y = points.round().long().unbind(1)
    z = depth[y.clamp(0, H - 1), x.clamp(0, W - 1)].unsqueeze(1)
    here = (to_homogeneous(points) * z) @ torch.linalg.inv(intrinsics0).T
    there = here @ pose[:3, :3].T + pose[:3, 3]
    image = there @ intrinsics1.T
    return image[:, :2] / (image[:, 2:] + DEPTH_EPS)


def symmetric_epipolar_distance(
    points0: Tensor, points1: Tensor, essential: Tensor, intrinsics0: Tensor, intrinsics1: Tensor
) -> Tensor:
    """Squared symmetric epipolar distance in normalised coordinates.

    Args:
        points0 (Tensor): ``(N, 2)`` in pixels of image 0.
        points1 (Tensor): ``(N, 2)`` in pixels of image 1.
        essential (Tensor): ``(3, 3)``.
        intrinsics0 (Tensor): ``(3, 3)`` of image 0.
        intrinsics1 (Tensor): ``(3, 3)`` of image 1.

    Returns:
        Tensor: ``(N,)``.

    Source: Hartley and Zisserman, "Multiple View Geometry", section 11.4.
    """
    first, second = (
        to_homogeneous((points - intrinsics[[0, 1], [2, 2]]) / intrinsics[[0, 1], [0, 1]])
        for points, intrinsics in ((points0, intrinsics0), (points1, intrinsics1))
    )
    lines1, lines0 = first @ essential.T, second @ essential
    error = (second * lines1).sum(1).square()
    norms = (lines[:, :2].square().sum(1).reciprocal() for lines in (lines0, lines1))
    return error * sum(norms)


def cross_matrix(vector: Tensor) -> Tensor:
    """The matrix ``[v]x`` of the cross product with a vector ``(3,)``."""
    x, y, z = vector
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)


def essential_of(pose: Tensor) -> Tensor:
    """Essential matrix ``[t]x R`` of a relative pose ``(4, 4)``."""
    return cross_matrix(pose[:3, 3]) @ pose[:3, :3]
