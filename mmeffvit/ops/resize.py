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

from .layout import same_sizes
from .precision import without_autocast


def resize_matrix(source: int, target: int, antialias: bool = True) -> Tensor:
    """Weights of linear resampling with half-pixel centres.

    Args:
        source (int): Length of the axis.
        target (int): Wanted length.
        antialias (bool): When shrinking, widen the triangle by the scale, so that every input
            counts; otherwise two neighbours count.

    Returns:
        Tensor: ``(target, source)`` in float64 on the CPU; rows sum to 1.

    Raises:
        ValueError: If a length is not positive.
    """
    if source < 1 or target < 1:
        raise ValueError(f'Cannot resize {source} cells to {target}; both must be at least 1.')
    kind = dict(dtype=torch.float64, device='cpu')
    # Arrays times ends over ends: compilers round the quotient of two symbolic sizes.
    centres = (torch.arange(target, **kind)[:, None] + 0.5) * source / target
    if not antialias:
        # Beyond the outermost centres the outermost value continues.
        centres = centres.clamp(0.5, source - 0.5)
    distance = (torch.arange(source, **kind) + 0.5 - centres).abs()
    if antialias:
        distance = distance * target / torch.sym_max(source, target)
    weights = (1 - distance).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


@lru_cache(maxsize=256)
def _cached_matrix(source: int, target: int, antialias: bool) -> np.ndarray:
    """The matrix of known sizes; an array, as a tensor made while tracing must not outlive it."""
    return resize_matrix(source, target, antialias).numpy()


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
            if same_sizes([old], [new]):
                continue
            if torch.compiler.is_compiling():
                matrix = resize_matrix(old, new, antialias)
            else:
                matrix = torch.as_tensor(_cached_matrix(old, new, antialias))
            matrix = matrix.to(tokens)
            rows = tokens.reshape(B * math.prod(target[:axis]), old, -1)
            tokens = matrix @ rows
    return tokens.reshape(B, -1, C)
