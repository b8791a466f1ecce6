"""Pictures of generated patterns, one kind over the whole picture.

Everything here is our choice; nothing is published. Only the pattern tells the kind:
colours, frequency, phase, light and noise are drawn independently of it. Most periods are longer
than a patch of eight pixels, so one patch rarely tells the kind.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

KINDS = ('bricks', 'checks', 'diagonals', 'dots', 'grain', 'rings', 'smooth', 'stripes')
PERIODS = (7.0, 14.0)
"""Shortest and longest period of a pattern in pixels."""

TILT = 0.15
"""Patterns stand upright, and diagonals at 45 degrees, within this angle in radians."""

_CONTRAST = 40
_NOISE = 33.0


def draw_pattern(rng: np.random.Generator, size: tuple[int, int], kind: str) -> np.ndarray:
    """Draw one pattern in two random colours.

    Args:
        rng (np.random.Generator): Source of randomness.
        size (tuple[int, int]): ``(H, W)`` in pixels.
        kind (str): One of ``KINDS``.

    Returns:
        np.ndarray: ``(H, W, 3)`` float32 BGR in [0, 255].
    """
    dark, bright = _two_colours(rng)
    mix = _FIELDS[kind](rng, size, rng.uniform(*PERIODS))
    return dark + (bright - dark) * mix[..., None].astype(np.float32)


def draw_patterned(rng: np.random.Generator, size: tuple[int, int], kind: str) -> np.ndarray:
    """Draw a picture of one pattern, ``(H, W, 3)`` BGR uint8; arguments of ``draw_pattern``."""
    return _expose(rng, draw_pattern(rng, size, kind))


def _two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two BGR colours that differ by at least ``_CONTRAST`` grey levels on average."""
    while True:
        first, second = rng.uniform(20, 235, (2, 3)).astype(np.float32)
        if abs(first.mean() - second.mean()) >= _CONTRAST:
            return first, second


def _expose(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Light from one side, and sensor noise."""
    height, width = image.shape[:2]
    ys, xs = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
    light = 1 + strength * (np.cos(angle) * xs + np.sin(angle) * ys)
    image = image * light[..., None]
    image += rng.uniform(0, _NOISE) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _axes(
    rng: np.random.Generator, size: tuple[int, int], period: float, turn: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates in periods, almost upright or turned, with a random phase."""
    ys, xs = np.mgrid[: size[0], : size[1]] / period
    angle = turn + rng.uniform(-TILT, TILT)
    across, along = np.cos(angle) * xs + np.sin(angle) * ys, np.cos(angle) * ys - np.sin(angle) * xs
    return across + rng.random(), along + rng.random()


def _wave(phase: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.sin(2 * np.pi * phase)


def _bricks(rng, size, period):
    across, along = _axes(rng, size, period)
    along = along * 1.5
    across = across * 0.75 + 0.5 * (np.floor(along) % 2)
    return np.minimum(along % 1 > 0.22, across % 1 > 0.13).astype(float)


def _checks(rng, size, period):
    across, along = _axes(rng, size, period)
    return ((np.floor(2 * across) + np.floor(2 * along)) % 2).astype(float)


def _diagonals(rng, size, period):
    return _wave(_axes(rng, size, period, np.pi / 4 * (1 if rng.random() < 0.5 else -1))[0])


def _stripes(rng, size, period):
    return _wave(_axes(rng, size, period, np.pi / 2 * (rng.random() < 0.5))[0])


def _dots(rng, size, period):
    across, along = _axes(rng, size, period)
    distance = np.hypot(across % 1 - 0.5, along % 1 - 0.5)
    return np.clip((0.33 - distance) * period, 0, 1)


def _rings(rng, size, period):
    ys, xs = np.mgrid[: size[0], : size[1]]
    y, x = rng.uniform(0.2, 0.8, 2) * size
    return _wave(np.hypot(ys - y, xs - x) / period + rng.random())


def _grain(rng, size, period):
    sigma = period / 12
    noise = cv2.GaussianBlur(rng.standard_normal(size), (0, 0), sigma)
    return np.clip(0.5 + 0.3 * noise / noise.std(), 0, 1)


def _smooth(rng, size, period):
    cells = [max(round(side / (3 * period)), 1) + 2 for side in size]
    coarse = cv2.resize(rng.random(cells), size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse, 0, 1)


_FIELDS: dict[str, Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]] = dict(
    bricks=_bricks,
    checks=_checks,
    diagonals=_diagonals,
    dots=_dots,
    grain=_grain,
    rings=_rings,
    smooth=_smooth,
    stripes=_stripes,
)
