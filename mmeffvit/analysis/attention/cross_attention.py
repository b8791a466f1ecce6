from __future__ import annotations

from torch import Tensor

from ...layers import FullAttention, LinearAttention
from ...ops import linear_attention
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, explain
from .weights import identity_values, softmax_weights


@explain.register(FullAttention)
def explain_full(
    layer: FullAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point, in self-attention."""
    q, k, _ = layer.project(x[:1])
    weights = softmax_weights(q[:, :, [query.index(grid)]], k)[0, :, 0].mean(0)
    return [query.map_at_point('keys of the point', weights.unflatten(0, grid), grid)]


@explain.register(LinearAttention)
def explain_linear(
    layer: LinearAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point by the kernel, in self-attention."""
    q, k, _ = layer.project(x[:1])
    weights = linear_attention(q[:, :, [query.index(grid)]], k, identity_values(k))
    weights = weights[0, :, 0].mean(0).unflatten(0, grid)
    return [query.map_at_point('keys of the point', weights, grid)]
