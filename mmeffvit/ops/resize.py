"""Linear resampling of token grids by matrices.

One small matrix per axis serves images and videos, any dtype and device, and has a deterministic
backward. Antialiased, it equals ``F.interpolate(..., antialias=True)``, which half precision on
CPUs does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .precision import without_autocast


@lru_cache(maxsize=256)
def resize_matrix(source: int, target: int, antialias: bool = True) -> np.ndarray:
    """Weights of linear resampling with half-pixel centres.

    Args:
        source (int): Length of the axis.
        target (int): Wanted length.
        antialias (bool): When shrinking, widen the triangle by the scale, so that every input
            counts; otherwise two neighbours count.

    Returns:
        np.ndarray: ``(target, source)`` in float64; rows sum to 1. Cached: do not write to it.

    Raises:
        ValueError: If a length is not positive.
    """
    if source < 1 or target < 1:
        raise ValueError(f'Cannot resize {source} cells to {target}; both must be at least 1.')
    # Arrays times ends over ends: compilers round the quotient of two symbolic sizes.
    centres = (np.arange(target)[:, None] + 0.5) * source / target
    if not antialias:
        # Beyond the outermost centres the outermost value continues.
        centres = np.clip(centres, 0.5, source - 0.5)
    distance = np.abs(np.arange(source) + 0.5 - centres)
    if antialias:
        distance = distance * target / max(source, target)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(1, keepdims=True)


def resize_grid(
    tokens: Tensor, source: Sequence[int], target: Sequence[int], antialias: bool = True
) -> Tensor:
    """Resample tokens from one grid to another, linearly along each axis.

    Args:
        tokens (Tensor): ``(B, N, C)`` in row-major order of the grid.
        source (Sequence[int]): The grid, such as ``(H, W)`` or ``(T, H, W)``.
        target (Sequence[int]): The wanted grid, with as many axes.
        antialias (bool): See :func:`resize_matrix`.

    Returns:
        Tensor: ``(B, N', C)``; the input itself where the grids agree.

    Raises:
        ValueError: If the grids do not have the same axes, or ``N`` cells.
    """
    B, N, C = tokens.shape
    if len(source) != len(target) or math.prod(source) != N:
        raise ValueError(f'Cannot resize {N} tokens from grid {source} to grid {target}.')
    with without_autocast(tokens):
        for axis, (old, new) in enumerate(zip(source, target)):
            if old == new:
                continue
            matrix = torch.as_tensor(resize_matrix(old, new, antialias)).to(tokens)
            rows = tokens.reshape(B * math.prod(target[:axis]), old, -1)
            tokens = matrix @ rows
    return tokens.reshape(B, -1, C)
