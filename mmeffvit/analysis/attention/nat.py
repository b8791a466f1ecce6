from __future__ import annotations

from torch import Tensor

from ...layers import NeighborhoodAttention
from ...ops.layout import Grid
from ...ops.neighborhood_attention import window_axis
from .protocol import AttentionMap, AttentionQuery, explain


@explain.register(NeighborhoodAttention)
def explain_neighborhood(
    layer: NeighborhoodAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Keys of the point in its window; the weights of padding tokens are left out."""
    row, column = query.cell(grid)
    q, k, _ = layer.project(x[:1], grid)
    axes = [window_axis(side, layer.kernel_size, layer.dilation, q.device) for side in q.shape[1:3]]
    rows, columns = (
        axis.positions[place][axis.exists[place]] for axis, place in zip(axes, (row, column))
    )
    logits = (k[0, rows][:, columns] * q[0, row, column]).sum(-1)
    if layer.rpb is not None:
        offsets = [
            axis.offsets[place][axis.exists[place]] for axis, place in zip(axes, (row, column))
        ]
        bias = layer.rpb[:, offsets[0]][..., offsets[1]]
        logits = logits + bias.permute(1, 2, 0)
    weights = logits.flatten(0, 1).softmax(0).mean(-1).view(len(rows), len(columns))
    out = weights.new_zeros(q.shape[1:3])
    out[rows[:, None], columns] = weights
    return [query.map_at_point('keys of the point', out[: grid[0], : grid[1]], grid)]
