"""Attention weights from the ops' own arithmetic, and their places on the image's grid."""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops import softmax_attention, use_backend
from ...ops.layout import Grid


def softmax_weights(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Weights of :func:`mmeffvit.ops.softmax_attention`: its result for an identity of values.

    Args:
        q (Tensor): Queries ``(B, heads, N, D)``.
        k (Tensor): Keys ``(B, heads, M, D)``.
        bias (Tensor, optional): As in the op.

    Returns:
        Tensor: ``(B, heads, N, M)``; rows sum to 1.
    """
    with use_backend('reference'):
        return softmax_attention(q, k, identity_values(k), bias)


def identity_values(k: Tensor) -> Tensor:
    """Values ``(..., M, M)`` for keys ``(..., M, D)`` whose weighted sum is the weights."""
    values = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
    return values.expand(*k.shape[:-2], -1, -1)


def split_blocks(weights: Tensor, side: int, grid: Grid) -> Tensor:
    """Divide the weights ``(h, w)`` of ``side * side`` blocks equally among the cells of a grid.

    Cells that no block covers get 0.
    """
    fine = weights.repeat_interleave(side, 0).repeat_interleave(side, 1) / side**2
    out = weights.new_zeros(grid)
    fine = fine[: grid[0], : grid[1]]
    out[: fine.shape[0], : fine.shape[1]] = fine
    return out


def number_cells(grid: Grid, device: torch.device) -> Tensor:
    """Number the cells of a grid from 1, as tokens ``(1, H*W, 1)``; padding becomes 0."""
    return torch.arange(1, grid[0] * grid[1] + 1, device=device).view(1, -1, 1)


def find_cell(numbers: Tensor, index: int) -> tuple[int, int]:
    """Find a cell in windows.

    Args:
        numbers (Tensor): Numbers of the windows' cells ``(windows, N)``, see :func:`number_cells`.
        index (int): Row-major index of the cell.

    Returns:
        tuple[int, int]: Its window and its place there.
    """
    found = (numbers == index + 1).nonzero()
    return int(found[0, 0]), int(found[0, 1])


def scatter_window(weights: Tensor, numbers: Tensor, grid: Grid) -> Tensor:
    """Place the weights ``(N,)`` of a window's keys on the grid ``(H, W)``; padding is left out.

    Args:
        weights (Tensor): The weights.
        numbers (Tensor): Numbers ``(N,)`` of the keys' cells, see :func:`number_cells`.
        grid (tuple[int, int]): ``(H, W)``.
    """
    out = weights.new_zeros(1 + grid[0] * grid[1])
    return out.index_add_(0, numbers, weights)[1:].unflatten(0, grid)
