from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...layers import QuadTreeAttention
from ...ops import from_quad, quadtree_fine, to_quad
from ...ops.layout import Grid, divide_up
from ...ops.numerics import accurate, without_autocast
from ...ops.quadtree import coarsest_level, mask_per_head
from .protocol import AttentionMap, AttentionQuery, cell_box, explain


@explain.register(QuadTreeAttention)
def explain_quadtree(
    layer: QuadTreeAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Per level the keys that the point keeps; on the finest level all that it attends to."""
    pyramids = layer.project(x[:1], grid)
    padded_grid, halvings = pyramids.padded_grid, len(pyramids.queries) - 1
    row, column = query.cell(grid)
    cells = torch.arange(padded_grid[0] * padded_grid[1], device=x.device).view(1, -1, 1)
    cells = to_quad(cells, padded_grid, halvings).flatten()
    node = int((cells == row * padded_grid[1] + column).nonzero())
    # Queries of the point's branch of the tree only.
    root = node >> 2 * halvings
    branch = [q[:, :, root << 2 * i : root + 1 << 2 * i] for i, q in enumerate(pyramids.queries)]
    kept = select_keys(branch, pyramids.keys, pyramids.topks, layer.kind, pyramids.key_masks)
    maps = []
    for level, (nodes, scores) in enumerate(kept):
        side = 2 ** (halvings - level)
        place = (node >> 2 * (halvings - level)) - (root << 2 * level)
        nodes, scores = nodes[0, :, place], scores[0, :, place]
        weights = scores.new_zeros(len(scores), pyramids.keys[level].shape[2])
        weights = weights.scatter(1, nodes, scores).mean(0).view(1, 1, -1, 1)
        level_grid = (padded_grid[0] // side, padded_grid[1] // side)
        weights = from_quad(weights, level_grid, level).view(level_grid)
        seen = tuple(divide_up(length, side) for length in grid)
        title = f'level {level + 1} of {halvings + 1}: {nodes.shape[1]} keys per head'
        box = cell_box((row // side, column // side), seen)
        maps.append(AttentionMap(title, weights[: seen[0], : seen[1]], box))
    return maps


def select_keys(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    topks: Sequence[int],
    kind: str = 'B',
    key_masks: Sequence[Tensor] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Keys that every query of :func:`mmeffvit.ops.quadtree_attention` keeps on each level.

    Args:
        queries (Sequence[Tensor]): As in the op, as are the others.
        keys (Sequence[Tensor]): Keys.
        topks (Sequence[int]): On the finest level every candidate is returned.
        kind (str): ``'A'`` or ``'B'``.
        key_masks (Sequence[Tensor], optional): Visible keys.

    Returns:
        list[tuple]: Per level nodes and scores, both ``(B, heads, Nq_l, K_l)``, best first. A score
        is the softmax weight among the level's candidates, for kind ``'A'`` times the parent's.
    """
    B, num_heads, _, D = queries[0].shape
    levels: list[tuple[Tensor, Tensor]] = []
    with without_autocast(queries[0]):
        for level, (q, k) in enumerate(zip(queries, keys)):
            q, k = (accurate(x).flatten(0, 1) for x in (q, k))
            mask = None if key_masks is None else mask_per_head(key_masks[level], B, num_heads)
            topk = k.shape[1] if level == len(queries) - 1 else topks[level]
            if level == 0:
                _, index, score = coarsest_level(q, k, k, mask, D**-0.5, topk, kind)
            else:
                index, score = levels[-1]
                parents = score if kind == 'A' else None
                _, index, score = quadtree_fine(
                    q, k, k, index, parents, mask, scale=D**-0.5, topk=topk
                )
            assert index is not None and score is not None  # as topk is not 0
            levels.append((index, score))
    return [
        (index.unflatten(0, (B, num_heads)), score.unflatten(0, (B, num_heads)))
        for index, score in levels
    ]
