"""Mosaics of tinted pieces under coarse grain, and which tint every pixel has.

Everything here is our choice; nothing is published. The grain is as coarse as a patch of eight
pixels and stronger than the tints differ, so a patch must be compared with its neighbours.
"""

import cv2
import numpy as np

TINTS = ('blue', 'green', 'red', 'white')
PIECES = 3
"""Pieces along each side of a mosaic."""

_BGR = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]], np.float32)
_STRENGTH = 35.0
_GRAIN = 55.0
_GRAIN_SIGMA = 3.0


def draw_mosaic(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a mosaic: what is nearest to each point of a jittered grid has one random tint.

    Args:
        rng (np.random.Generator): Source of randomness.
        size (tuple[int, int]): ``(H, W)`` in pixels.

    Returns:
        tuple[np.ndarray, np.ndarray]: ``(H, W, 3)`` BGR uint8 image, and ``(H, W)`` uint8 label
        map of indices into ``TINTS``.
    """
    cells = np.stack(np.mgrid[:PIECES, :PIECES], -1).reshape(-1, 2)
    points = (cells + rng.uniform(0.2, 0.8, cells.shape)) * size / PIECES
    ys, xs = np.mgrid[: size[0], : size[1]]
    nearest = np.argmin([(ys - y) ** 2 + (xs - x) ** 2 for y, x in points], axis=0)
    labels = rng.integers(len(TINTS), size=len(points)).astype(np.uint8)[nearest]
    noise = rng.standard_normal((*size, 3), np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), _GRAIN_SIGMA)
    image = 128 + _STRENGTH * _BGR[labels] + _GRAIN / grain.std() * grain
    return np.clip(np.round(image), 0, 255).astype(np.uint8), labels
