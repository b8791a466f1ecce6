from __future__ import annotations

from torch import Tensor

from ...layers import LookupGather
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, cell_box, explain


@explain.register(LookupGather)
def explain_lookup_gather(
    layer: LookupGather,
    compressed: Tensor,
    lookup: Tensor,
    grids: tuple[Grid, Grid],
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Share of each compressed token in what the point is infused with, and keys of chosen ones."""
    compressed_grid, grid = grids
    weights = layer(compressed[:1], lookup[:1])[1][0].mean(0)
    maps = [
        AttentionMap(
            f'keys of compressed token {row},{column}',
            weights[row * compressed_grid[1] + column].unflatten(0, grid),
            cell_box((row, column), compressed_grid),
        )
        for row, column in query.chosen_tokens(compressed_grid)
    ]
    received = weights[:, query.index(grid)]
    shares = (received / received.sum()).unflatten(0, compressed_grid)
    return [query.map_at_point('share of each token at the point', shares, grid), *maps]
