"""Attention-map protocol: for each type of layer, the weights that a query assigns to its keys.

:func:`explain` chooses its implementation by the type of the layer; the modules of this package
register one per family. An implementation takes the arguments of the layer's ``forward`` and an
:class:`AttentionQuery`, and computes the weights anew from the projections that ``forward`` uses,
so layers keep nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import NamedTuple

from torch import Tensor, nn

from ...ops.layout import Grid

Box = tuple[float, float, float, float]


class AttentionMap(NamedTuple):
    """Attention weights of one query over the image, or of all image positions for one token.

    Attributes:
        title (str): Title of the picture.
        weights (Tensor): ``(h, w)``, not negative, averaged over heads; a grid over the image.
        query (tuple, optional): Box of the query or token as shares of the grid: top, left, bottom,
            right; None for a token without a position.
    """

    title: str
    weights: Tensor
    query: Box | None


class AttentionQuery(NamedTuple):
    """The image position, and the token indices, whose attention is visualised.

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
        """Row and column of the cell that contains the point, for a grid over the image."""
        x, y = self.point
        height, width = cell_size(self.image_size, grid)
        return min(int(y / height), grid[0] - 1), min(int(x / width), grid[1] - 1)

    def index(self, grid: Grid) -> int:
        """Index of that cell in row-major order."""
        row, column = self.cell(grid)
        return row * grid[1] + column

    def map_at_point(self, title: str, weights: Tensor, grid: Grid) -> AttentionMap:
        """Make the map of the query token at the point.

        Args:
            title (str): Title of the picture.
            weights (Tensor): ``(h, w)``.
            grid (tuple[int, int]): Grid of the queries.
        """
        return AttentionMap(title, weights, cell_box(self.cell(grid), grid))

    def chosen_tokens(self, grid: Grid) -> list[tuple[int, int]]:
        """Rows and columns of the chosen tokens.

        Args:
            grid (tuple[int, int]): Grid of the tokens.

        Raises:
            ValueError: If a token is outside the grid.
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


@singledispatch
def explain(layer: nn.Module, *args, query: AttentionQuery, **kwargs) -> list[AttentionMap]:
    """Compute the attention maps of one call of an attention layer.

    ``explain.register`` adds an implementation for a type of layer and its subclasses; a subclass
    whose ``forward`` differs needs one of its own. A layer without a registered implementation may
    define a method ``explain(*args, query, **kwargs)``.

    Args:
        layer (nn.Module): The layer.
        *args: Positional arguments of its ``forward``.
        query (AttentionQuery): Whose attention is wanted.
        **kwargs: Keyword arguments of its ``forward``.

    Returns:
        list[AttentionMap]: None for a layer that reuses the attention of an earlier one.

    Raises:
        TypeError: If there is neither a registered function nor a method.
    """
    method = getattr(layer, 'explain', None)
    if method is None:
        raise TypeError(
            f'{type(layer).__name__} has no explanation; register a function with '
            '@mmeffvit.analysis.attention.explain.register, see docs/custom_attention.md.'
        )
    return method(*args, query=query, **kwargs)


def has_explanation(layer: nn.Module) -> bool:
    """Return whether :func:`explain` can be called on a layer."""
    registered = explain.dispatch(type(layer)) is not explain.dispatch(object)
    return registered or hasattr(layer, 'explain')


def cell_box(cell: tuple[int, int], grid: Grid) -> Box:
    """Top, left, bottom and right of a cell as shares of its grid."""
    (row, column), (rows, columns) = cell, grid
    return row / rows, column / columns, (row + 1) / rows, (column + 1) / columns


def cell_size(image_size: Grid, grid: Grid) -> tuple[float, float]:
    """Height and width in pixels of the cells of a grid over an image.

    Strides are powers of two and grids are rounded up, so the last cells may extend beyond the
    image; a grid of no such stride is stretched over the image.
    """
    for stride in (1 << bit for bit in range(max(image_size).bit_length() + 1)):
        if all(-(-side // stride) == cells for side, cells in zip(image_size, grid)):
            return stride, stride
    return image_size[0] / grid[0], image_size[1] / grid[1]
