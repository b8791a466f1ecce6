from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...layers import (
    LinearSpatialReductionAttention,
    SoftmaxAttention,
    SpatialReductionAttention,
)
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, explain
from .weights import softmax_weights, split_blocks


@explain.register(SoftmaxAttention)
def explain_softmax(
    layer: SoftmaxAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point, and of each token before the grid such as the class token."""
    q, k, _ = layer.project(x[:1], grid)
    num_extra_tokens = x.shape[1] - grid[0] * grid[1]
    rows = [num_extra_tokens + query.index(grid), *range(num_extra_tokens)]
    weights = softmax_weights(q[:, :, rows], k)[0].mean(0)
    point, *extra = weights[:, num_extra_tokens:].unflatten(1, grid)
    return [
        query.map_at_point('keys of the point', point, grid),
        *(AttentionMap(f'keys of extra token {i}', row, None) for i, row in enumerate(extra)),
    ]


@explain.register(SpatialReductionAttention)
def explain_spatial_reduction(
    layer: SpatialReductionAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point; the weight of a reduced cell is divided among the cells it is made of."""
    q, k, _ = layer.project(x[:1], grid)
    weights = softmax_weights(q[:, :, [query.index(grid)]], k)[0, :, 0].mean(0)
    key_grid = tuple(max(1, side // layer.sr_ratio) for side in grid)
    weights = split_blocks(weights.unflatten(0, key_grid), layer.sr_ratio, grid)
    return [query.map_at_point('keys of the point', weights, grid)]


@explain.register(LinearSpatialReductionAttention)
def explain_linear_spatial_reduction(
    layer: LinearSpatialReductionAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point; the weight of a pooled cell is divided as pooling averages its cells."""
    q, k, _ = layer.project(x[:1], grid)
    weights = softmax_weights(q[:, :, [query.index(grid)]], k)[0, :, 0].mean(0)
    weights = weights.unflatten(0, (layer.pool_size, layer.pool_size))
    rows, columns = (
        F.adaptive_avg_pool1d(
            torch.eye(side, dtype=x.dtype, device=x.device)[None], layer.pool_size
        )[0]
        for side in grid
    )
    return [query.map_at_point('keys of the point', rows @ weights @ columns.T, grid)]
