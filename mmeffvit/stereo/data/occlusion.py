from __future__ import annotations

import numpy as np

#: Largest difference in pixels of the disparities of one point seen by both images.
CONSISTENCY = 1.0


def occlusion_of(
    left: np.ndarray, right: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of either image that the other does not see, from the disparities of both.

    A pixel is occluded if its match is outside of the other image, or if the disparity there is
    another one. Without the right disparity only the former is known, and nothing of the right
    image.

    Args:
        left (np.ndarray): Disparity ``(H, W)``; not positive where it is not known.
        right (np.ndarray, optional): That of the right image.

    Returns:
        tuple: Boolean ``(H, W)`` of the left and of the right image.

    Source: STTR's public code.
    """
    columns = np.broadcast_to(np.arange(left.shape[1]), left.shape)
    occluded = columns - left <= 0
    if right is None:
        return occluded, np.zeros_like(occluded)
    occluded = occluded | _inconsistent(left, right, columns - left)
    there = columns + right
    occluded_right = (there >= left.shape[1]) | _inconsistent(right, left, there)
    return occluded, occluded_right


def _inconsistent(own: np.ndarray, other: np.ndarray, place: np.ndarray) -> np.ndarray:
    column = np.floor(place).astype(int).clip(0, own.shape[1] - 1)
    found = np.take_along_axis(other, column, 1)
    return (np.abs(found - own) > CONSISTENCY) & (own > 0) & (found > 0)
