from __future__ import annotations

from torch import Tensor

from ...layers import DualTokenAttention
from ...layers.attention import split_heads
from ...layers.dualtoken import PositionAwareTokens
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, cell_box, explain
from .weights import softmax_weights, split_blocks


@explain.register(DualTokenAttention)
def explain_dual_token(
    layer: DualTokenAttention,
    x: Tensor,
    x_global: Tensor | None,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Weights that all image positions assign to each chosen global token (figure 4).

    Without global tokens, the aggregated image tokens that the point attends to.
    """
    weights = broadcast_weights(layer, x[:1], None if x_global is None else x_global[:1], grid)[
        0
    ].mean(0)
    if layer.tokens is None:
        side = 1 if layer.pool is None else 2**layer.pool.steps
        pooled = weights[query.index(grid)].unflatten(0, [length // side for length in grid])
        return [query.map_at_point('keys of the point', split_blocks(pooled, side, grid), grid)]
    size = layer.tokens.token_size
    has_position = isinstance(layer.tokens, PositionAwareTokens)
    return [
        AttentionMap(
            f'weight of token {row},{column}',
            weights[:, row * size[1] + column].unflatten(0, grid),
            cell_box((row, column), size) if has_position else None,
        )
        for row, column in query.chosen_tokens(size)
    ]


def broadcast_weights(
    layer: DualTokenAttention, x: Tensor, x_global: Tensor | None, grid: Grid
) -> Tensor:
    """Weights that image tokens assign to global tokens in the broadcast.

    Args:
        layer (DualTokenAttention): The layer.
        x (Tensor): Normed image tokens ``(B, H*W, C)``.
        x_global (Tensor, optional): Normed global tokens ``(B, T, C)``.
        grid (tuple[int, int]): ``(H, W)``.

    Returns:
        Tensor: ``(B, heads, H*W, T)``; rows sum to 1.
    """
    _, update = layer.aggregate(x, x_global, grid)
    q, k, _ = layer.project(x, update)
    return softmax_weights(*(split_heads(tokens, layer.num_heads) for tokens in (q, k)))
