from __future__ import annotations

from torch import Tensor

from ...layers import WindowAttention
from ...ops import use_backend
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, explain
from .weights import find_cell, identity_values, number_cells, scatter_window


@explain.register(WindowAttention)
def explain_window(
    layer: WindowAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point in its window; the weights of padding tokens are left out."""
    windows, padded_grid, shifts = layer.partition(x[:1], grid)
    numbers = layer.partition(number_cells(grid, x.device), grid)[0][0, :, :, 0]
    q, k, _ = layer.project(windows)
    with use_backend('reference'):
        weights = layer.attend(q, k, identity_values(k), padded_grid, shifts)
    window, place = find_cell(numbers, query.index(grid))
    weights = scatter_window(weights[window, :, place].mean(0), numbers[window], grid)
    return [query.map_at_point('keys of the point', weights, grid)]
