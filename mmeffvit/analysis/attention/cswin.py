from __future__ import annotations

from torch import Tensor

from ...layers import CrossShapedWindowAttention
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, explain
from .weights import find_cell, number_cells, scatter_window, softmax_weights


@explain.register(CrossShapedWindowAttention)
def explain_cross_shaped_window(
    layer: CrossShapedWindowAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point in its stripe of each direction; those of padding tokens are left out."""
    qkv = layer.project(x[:1], grid)
    cells = number_cells(grid, x.device).view(1, *grid, 1, 1)
    maps = []
    for direction in range(qkv.shape[4]):
        stripe = layer.stripe_size(grid, direction)
        numbers = layer.cut_stripes(cells, stripe).flatten(1)
        window, place = find_cell(numbers, query.index(grid))
        stripes = layer.cut_stripes(qkv[:, :, :, :, direction], stripe)[window : window + 1]
        q, k, _ = layer.split_heads(stripes)
        weights = softmax_weights(q[:, :, [place]], k)[0, :, 0].mean(0)
        weights = scatter_window(weights, numbers[window], grid)
        title = f'keys of the point in {stripe[0]}x{stripe[1]}'
        maps.append(query.map_at_point(title, weights, grid))
    return maps
