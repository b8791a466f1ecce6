"""What an attention layer says of itself: where a query looked.

A layer has a method ``explain`` that takes what ``forward`` takes, and a :class:`Look`. It returns
:class:`AttentionMap`s, none if the layer attends to nothing of its own, and computes them anew:
``forward`` keeps nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops.layout import Grid

Box = tuple[float, float, float, float]


class AttentionMap(NamedTuple):
    """How much a query takes from each part of the image, or each part from one token.

    Attributes:
        title (str): What it is.
        weights (Tensor): ``(h, w)``, not negative, means over heads; a grid over the image.
        query (tuple, optional): Where the query or token is: top, left, bottom, right as shares of
            the grid; None for one without a place.
    """

    title: str
    weights: Tensor
    query: Box | None


class Look(NamedTuple):
    """What is to be explained.

    Attributes:
        image_size (tuple[int, int]): ``(H, W)`` of the image in pixels.
        point (tuple[int, int]): ``(x, y)`` of the query in pixels.
        tokens (Sequence[tuple[int, int]], optional): Rows and columns of tokens, for layers with
            a small grid of them; by default the centre and the middles of the sides.
    """

    image_size: Grid
    point: tuple[int, int]
    tokens: Sequence[tuple[int, int]] | None = None

    def cell(self, grid: Grid) -> tuple[int, int]:
        """Row and column of the point on a grid over the image."""
        x, y = self.point
        height, width = cell_size(self.image_size, grid)
        return min(int(y / height), grid[0] - 1), min(int(x / width), grid[1] - 1)

    def at_point(self, title: str, weights: Tensor, grid: Grid) -> AttentionMap:
        """The map ``(h, w)`` of the query that the point is in, on the grid of the queries."""
        return AttentionMap(title, weights, cell_box(self.cell(grid), grid))

    def chosen(self, grid: Grid) -> list[tuple[int, int]]:
        """The tokens that were chosen, of a grid of tokens.

        Raises:
            ValueError: If one is outside the grid.
        """
        rows, columns = grid
        if self.tokens is None:
            row, column = rows // 2, columns // 2
            sides = [(0, column), (row, 0), (row, columns - 1), (rows - 1, column)]
            return list(dict.fromkeys([(row, column), *sides]))
        for row, column in self.tokens:
            if not (0 <= row < rows and 0 <= column < columns):
                raise ValueError(
                    f'Token {row},{column} is outside the grid of {rows}x{columns} tokens.'
                )
        return list(self.tokens)


def cell_box(cell: tuple[int, int], grid: Grid) -> Box:
    """A cell's place as shares of its grid."""
    (row, column), (rows, columns) = cell, grid
    return row / rows, column / columns, (row + 1) / rows, (column + 1) / columns


def cell_size(image_size: Grid, grid: Grid) -> tuple[float, float]:
    """Height and width in pixels of the cells of a grid over an image.

    Strides are powers of two and grids are rounded up, so the last cells may reach beyond the
    image; another grid is stretched over it.
    """
    for stride in (1 << bit for bit in range(max(image_size).bit_length() + 1)):
        if all(-(-side // stride) == cells for side, cells in zip(image_size, grid)):
            return stride, stride
    return image_size[0] / grid[0], image_size[1] / grid[1]


def spread(weights: Tensor, side: int, grid: Grid) -> Tensor:
    """Share the weights ``(h, w)`` of blocks of ``side * side`` cells among the cells of a grid.

    Cells that no block covers get nothing.
    """
    fine = weights.repeat_interleave(side, 0).repeat_interleave(side, 1) / side**2
    out = weights.new_zeros(grid)
    fine = fine[: grid[0], : grid[1]]
    out[: fine.shape[0], : fine.shape[1]] = fine
    return out


def number_cells(grid: Grid, device: torch.device) -> Tensor:
    """The cells of a grid as tokens ``(1, H*W, 1)``, numbered from 1; padding will be 0."""
    return torch.arange(1, grid[0] * grid[1] + 1, device=device).view(1, -1, 1)


def find_cell(numbers: Tensor, cell: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """Window and place in it of a cell, by the windows' cell numbers ``(windows, N)``."""
    found = (numbers == cell[0] * grid[1] + cell[1] + 1).nonzero()
    return found[0, 0].item(), found[0, 1].item()


def place_window(weights: Tensor, numbers: Tensor, grid: Grid) -> Tensor:
    """Map ``(H, W)`` with the weights ``(N,)`` of a window's keys at their cells' numbers."""
    out = weights.new_zeros(1 + grid[0] * grid[1])
    return out.index_add_(0, numbers, weights)[1:].unflatten(0, grid)
