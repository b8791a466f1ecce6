"""Resampling of token grids.

:func:`interpolate_tokens` is ``F.interpolate`` on tokens, bicubic by default, for position tables.
:func:`resample_linear` multiplies with one small matrix per axis: images and clips, any dtype and
device, a deterministic backward. Antialiased, it equals ``F.interpolate(..., antialias=True)``,
which half precision on CPUs does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .layout import Grid, map_to_tokens, same_sizes, tokens_to_map
from .numerics import accurate, without_autocast

#: Ways to interpolate position tables: PyTorch's two without antialiasing (``'bicubic'`` is that of
#: mmpretrain and mmseg), ``'timm'``, antialiased bicubic, and ``'dino'``, bicubic by a scale of
#: ``(side + 0.1) / old side``.
INTERPOLATIONS = ('bicubic', 'bilinear', 'timm', 'dino')


def interpolate_tokens(tokens: Tensor, grid: Grid, target: Grid, mode: str = 'bicubic') -> Tensor:
    """Interpolate a token grid, in float32 or float64.

    Args:
        tokens (Tensor): ``(B, H*W, C)``.
        grid (tuple[int, int]): ``(H, W)``.
        target (tuple[int, int]): The wanted grid ``(H', W')``.
        mode (str): One of :data:`INTERPOLATIONS`, all with half-pixel centres.

    Returns:
        Tensor: ``(B, H'*W', C)``; the input itself where the grids agree.
    """
    if same_sizes(grid, target):
        return tokens
    feature_map = accurate(tokens_to_map(tokens, grid))
    if mode == 'timm':
        resized = F.interpolate(feature_map, size=target, mode='bicubic', antialias=True)
    elif mode == 'dino':
        scales = [(new + 0.1) / old for old, new in zip(grid, target)]
        resized = F.interpolate(feature_map, scale_factor=scales, mode='bicubic')
    else:
        resized = F.interpolate(feature_map, size=target, mode=mode, align_corners=False)
    return map_to_tokens(resized).to(tokens.dtype)


def resampling_matrix(source: int, target: int, antialias: bool = True) -> Tensor:
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
    cells, wanted = (torch.arange(n, dtype=torch.float64, device='cpu') for n in (source, target))
    # Multiplied first: compilers round the quotient of two symbolic sizes.
    centres = (wanted[:, None] + 0.5) * source / target
    if not antialias:
        # Beyond the outermost centres the outermost value continues.
        centres = centres.clamp(0.5, source - 0.5)
    distance = (cells + 0.5 - centres).abs()
    if antialias:
        distance = distance * target / torch.sym_max(source, target)
    weights = (1 - distance).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


@lru_cache(maxsize=256)
def _cached_matrix(source: int, target: int, antialias: bool) -> np.ndarray:
    """The matrix of known sizes; an array, as a tensor made while tracing must not outlive it."""
    return resampling_matrix(source, target, antialias).numpy()


def resample_linear(
    tokens: Tensor, source: Sequence[int], target: Sequence[int], antialias: bool = True
) -> Tensor:
    """Resample tokens linearly along each axis of their grid.

    Args:
        tokens (Tensor): ``(B, N, C)`` in row-major order of the grid.
        source (Sequence[int]): The grid, such as ``(H, W)`` or ``(T, H, W)``.
        target (Sequence[int]): The wanted grid, with as many axes.
        antialias (bool): See :func:`resampling_matrix`.

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
                matrix = resampling_matrix(old, new, antialias)
            else:
                matrix = torch.as_tensor(_cached_matrix(old, new, antialias))
            matrix = matrix.to(tokens)
            inner = math.prod(source[axis + 1 :]) * C  # not -1: the batch may be empty
            tokens = matrix @ tokens.reshape(B * math.prod(target[:axis]), old, inner)
    return tokens.reshape(B, math.prod(target), C)
