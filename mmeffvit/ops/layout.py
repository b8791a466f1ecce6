"""Views between tokens, maps and quad order.

Quad order: with ``n`` halvings, a row index is (r0, b1..bn), r0 the high part and b1..bn its ``n``
low bits, and a column index is (c0, e1..en); tokens are sorted by (r0, c0, b1, e1, ..., bn, en).
The 2x2 children of node ``p`` are then nodes ``4p .. 4p + 3`` of the next finer level, in the order
(0, 0), (0, 1), (1, 0), (1, 1), so pooling is a mean over four neighbours in memory and a child
index is arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

#: Sides of a token grid: ``(H, W)``, or ``(T, H, W)`` of a clip.
Grid = tuple[int, ...]


def same_sizes(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two grids agree.

    With dynamic shapes, True only if the sizes are provably equal, so that the traced graph is
    valid for every input size.
    """
    if torch.compiler.is_compiling():
        return all(statically_known_true(x == y) for x, y in zip(a, b))
    return tuple(a) == tuple(b)


def divide_up(side: int, divisor: int) -> int:
    """Quotient of a positive number, rounded up.

    ``(n - 1) // d + 1`` composes; nested ``-(-n // d)`` makes symbolic expressions grow until
    tracing hangs.
    """
    return (side - 1) // divisor + 1


def tokens_to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """View row-major tokens ``(B, H*W, C)`` as a channels-last map ``(B, C, H, W)``.

    A grid ``(T, H, W)`` gives ``(B, C, T, H, W)``.
    """
    return tokens.unflatten(1, grid).movedim(-1, 1)


def map_to_tokens(feature_map: Tensor) -> Tensor:
    """Contiguous tokens ``(B, H*W, C)`` of a map ``(B, C, H, W)``; a view if it is channels-last.

    ``(B, C, T, H, W)`` gives ``(B, T*H*W, C)``.
    """
    # Otherwise residual additions inherit these strides and every later layer is slower.
    return feature_map.movedim(1, -1).flatten(1, -2).contiguous()


def pad_tokens(tokens: Tensor, grid: Grid, multiple: int) -> tuple[Tensor, Grid]:
    """Pad a token grid with zeros at the bottom and right to multiples.

    Args:
        tokens (Tensor): ``(B, H*W, C)``.
        grid (tuple[int, int]): ``(H, W)``.
        multiple (int): Both sides become multiples of it.

    Returns:
        tuple: Tokens ``(B, H'*W', C)`` and the grid ``(H', W')``.
    """
    padded_grid = tuple(divide_up(side, multiple) * multiple for side in grid)
    if same_sizes(padded_grid, grid):
        return tokens, grid
    bottom, right = (padded - side for padded, side in zip(padded_grid, grid))
    padded = F.pad(tokens.unflatten(1, grid), (0, 0, 0, right, 0, bottom))
    return padded.flatten(1, 2), padded_grid


def crop_tokens(tokens: Tensor, padded_grid: Grid, grid: Grid) -> Tensor:
    """Undo :func:`pad_tokens`: keep the top-left ``grid`` of ``(B, H'*W', C)`` tokens."""
    if same_sizes(padded_grid, grid):
        return tokens
    # Not slices, whose sizes an exporter with open sizes takes for unknown.
    cropped = tokens.unflatten(1, padded_grid).narrow(1, 0, grid[0]).narrow(2, 0, grid[1])
    return cropped.flatten(1, 2)


def to_quad(tokens: Tensor, grid: Grid, halvings: int, num_heads: int = 1) -> Tensor:
    """Bring row-major tokens into quad order, heads first.

    Args:
        tokens (Tensor): ``(B, H*W, C)``.
        grid (tuple[int, int]): ``(H, W)``, multiples of ``2 ** halvings``.
        halvings (int): Number of 2x2 poolings that become means over four neighbours.
        num_heads (int): Channels are split into this many contiguous groups.

    Returns:
        Tensor: ``(B, num_heads, H*W, C / num_heads)``, contiguous where the order changes.
    """
    B, N, C = tokens.shape
    if halvings == 0:
        return tokens.view(B, N, num_heads, C // num_heads).transpose(1, 2)
    height, width = grid
    bits, step = (2,) * halvings, 2**halvings
    split = tokens.reshape(
        B, height // step, *bits, width // step, *bits, num_heads, C // num_heads
    )
    return split.permute(0, -2, *_quad_axes(halvings), -1).reshape(B, num_heads, N, C // num_heads)


def from_quad(tokens: Tensor, grid: Grid, halvings: int) -> Tensor:
    """Inverse of :func:`to_quad`: ``(B, heads, H*W, D)`` to row-major ``(B, H*W, heads*D)``."""
    B, num_heads, N, D = tokens.shape
    if halvings == 0:
        return tokens.transpose(1, 2).reshape(B, N, num_heads * D)
    height, width = (side // 2**halvings for side in grid)
    split = tokens.reshape(B, num_heads, height, width, *(2, 2) * halvings, D)
    rows = (2, *range(4, 4 + 2 * halvings, 2))
    columns = (3, *range(5, 5 + 2 * halvings, 2))
    return split.permute(0, *rows, *columns, 1, -1).reshape(B, N, num_heads * D)


def _quad_axes(halvings: int) -> tuple[int, ...]:
    row, column = 1, 2 + halvings
    return tuple(axis for bit in range(halvings + 1) for axis in (row + bit, column + bit))
