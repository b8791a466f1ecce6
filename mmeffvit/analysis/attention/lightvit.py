from __future__ import annotations

from torch import Tensor

from ...layers import LightViTAttention
from ...layers.attention import split_heads
from ...ops import pad_tokens, partition_windows, use_backend
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, explain
from .weights import find_cell, identity_values, number_cells, scatter_window, softmax_weights


@explain.register(LightViTAttention)
def explain_light_vit(
    layer: LightViTAttention, x: Tensor, x_global: Tensor, grid: Grid, *, query: AttentionQuery
) -> list[AttentionMap]:
    """Keys of the point in its window, and what all positions assign to each chosen token."""
    windows, _, gathered, broadcast = layer.project(x[:1], x_global[:1], grid)
    numbers = pad_tokens(number_cells(grid, x.device), grid, layer.window_size)
    numbers = partition_windows(*numbers, layer.window_size)[0, :, :, 0]
    window, place = find_cell(numbers, query.index(grid))
    q, k, _ = (split_heads(t, layer.num_heads) for t in windows[:, window].chunk(3, dim=-1))
    with use_backend('reference'):
        weights = layer.attend_in_windows(q, k, identity_values(k))[0, :, place].mean(0)
    weights = scatter_window(weights, numbers[window], grid)
    maps = [query.map_at_point('keys of the point', weights, grid)]

    q, k, _ = (split_heads(tokens, layer.num_heads) for tokens in broadcast)
    weights = softmax_weights(q, k)[0].mean(0)
    for row, token in query.chosen_tokens((1, gathered.shape[1])):
        given = weights[:, token].unflatten(0, grid)
        maps.append(AttentionMap(f'weight of token {row},{token}', given, None))
    return maps
