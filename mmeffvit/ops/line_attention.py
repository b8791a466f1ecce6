"""Attention along lines with relative positions, to all tokens of a line or along a binary tree.

Lines are independent of each other. A table of relative positions has a row for every difference
of two places of a line of ``W`` tokens: row ``W - 1 - a + b`` is of query ``a`` and key ``b``, so
there are ``2 W - 1``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .numerics import accurate, without_autocast


def line_logits(
    q: Tensor,
    k: Tensor,
    q_table: Tensor | None = None,
    k_table: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Logits of all pairs of a line: content, and content with relative position.

    ``scale * (q_a k_b + q_a kr_ab + k_b qr_ab)``, in float32 (float64 for float64 inputs).

    Args:
        q (Tensor): Queries ``(lines, heads, W, D)``.
        k (Tensor): Keys ``(lines, heads, W, D)``.
        q_table (Tensor, optional): Table ``qr``, ``(heads, 2 W - 1, D)``; none without it.
        k_table (Tensor, optional): Table ``kr``, the same shape.
        scale (float): Factor.

    Returns:
        Tensor: ``(lines, heads, W, W)``.

    Source: Li et al., "Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective
    with Transformers" (ICCV 2021), section 3.2.
    """
    with without_autocast(q):
        q, k = accurate(q) * scale, accurate(k)
        logits = q @ k.transpose(-2, -1)
        if q_table is not None and k_table is not None:
            q_table, k_table = accurate(q_table), accurate(k_table)
            logits = logits + _by_difference(q @ k_table.transpose(-2, -1))
            # Read backwards, the row of key b and query a is W - 1 - b + a.
            backwards = (scale * q_table.flip(-2)).transpose(-2, -1)
            logits = logits + _by_difference(k @ backwards).transpose(-2, -1)
    return logits


def _by_difference(scores: Tensor) -> Tensor:
    """Entry ``(a, W - 1 - a + b)`` of ``(..., W, 2 W - 1)`` becomes entry ``(a, b)``."""
    W = scores.shape[-2]
    if W == 1:
        return scores
    # In memory the entries of neighbouring queries are 2 W - 2 apart.
    flat = scores.flatten(-2)[..., W - 1 :]
    rows = flat[..., : W * (2 * W - 2)].unflatten(-1, (W, 2 * W - 2))
    return rows[..., :W]


def tree_line_attention(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    topks: Sequence[int],
    kind: str = 'B',
    *,
    q_tables: Sequence[Tensor] | None = None,
    k_tables: Sequence[Tensor] | None = None,
    level_weights: Tensor | None = None,
    key_masks: Sequence[Tensor] | None = None,
) -> Tensor:
    """Attend along a binary tree over each line.

    The coarsest level attends to every key; on each finer level the two children of a query attend
    to the children of the ``K`` keys that it kept. QuadTree attention in one dimension.

    Args:
        queries (Sequence[Tensor]): Per level ``(lines, heads, W_l, D)``, coarsest first, each twice
            as long as the one before.
        keys (Sequence[Tensor]): Per level, the same shapes.
        values (Sequence[Tensor]): Per level, the same shapes.
        topks (Sequence[int]): Keys kept per query, coarsest level first; clamped.
        kind (str): ``'A'`` multiplies scores along the tree, ``'B'`` normalises every level and
            mixes levels.
        q_tables (Sequence[Tensor], optional): Per level the projected relative positions
            ``(heads, 2 W_l - 1, D)``; none without them.
        k_tables (Sequence[Tensor], optional): The same for keys.
        level_weights (Tensor, optional): ``(L,)`` for kind ``'B'``; should sum to one.
        key_masks (Sequence[Tensor], optional): Per level a boolean ``(W_l,)``, False where a key
            must not be seen.

    Returns:
        Tensor: ``(lines, heads, W, D)`` of the finest level, in float32 (float64).
    """
    out = kept = None
    score = torch.empty(0)
    scale = queries[0].shape[-1] ** -0.5
    last = len(queries) - 1
    with without_autocast(queries[0]):
        for level, (q, k, v) in enumerate(zip(queries, keys, values)):
            q, k, v = accurate(q) * scale, accurate(k), accurate(v)
            tables = (None, None)
            if q_tables is not None and k_tables is not None:
                tables = accurate(q_tables[level]) * scale, accurate(k_tables[level])
            mask = None if key_masks is None else key_masks[level]
            if kept is None:
                logits = line_logits(q, k, *tables)
                if mask is not None:
                    logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
                weights, candidates = logits.softmax(-1), None
            else:
                candidates = _children(kept)
                logits = _candidate_logits(q, k, candidates, *tables)
                if mask is not None:
                    logits = logits.masked_fill(~mask[candidates], torch.finfo(logits.dtype).min)
                if kind == 'A':
                    siblings = logits.unflatten(-1, (-1, 2)).softmax(-1)
                    parents = _to_children(score).unsqueeze(-1)
                    weights = (siblings * parents).flatten(-2)
                else:
                    weights = logits.softmax(-1)
            used = weights
            if level < last:
                count = min(topks[level], weights.shape[-1])
                score, place = weights.topk(count, -1)
                kept = place if candidates is None else candidates.gather(-1, place)
                if kind == 'A':
                    used = weights.scatter(-1, place, 0)
            if candidates is None:
                message = used @ v
            else:
                message = (used.unsqueeze(-2) @ _rows(v, candidates)).squeeze(-2)
            if kind == 'B' and level_weights is not None:
                message = message * level_weights[level]
            out = message if out is None else _to_children(out) + message
    assert out is not None
    return out


def _to_children(x: Tensor) -> Tensor:
    """Copy what is of a parent ``(lines, heads, W, ...)`` to its two children."""
    return x.repeat_interleave(2, 2)


def _children(kept: Tensor) -> Tensor:
    """Candidates ``(lines, heads, 2 W, 2 K)`` of the children of queries that kept ``K`` keys."""
    pairs = torch.stack([2 * kept, 2 * kept + 1], -1).flatten(-2)
    return _to_children(pairs)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Gather rows of ``(lines, heads, N, D)`` by ``(lines, heads, W, K)``: ``(..., W, K, D)``."""
    lines, heads, N, D = x.shape
    start = torch.arange(lines * heads, device=x.device).view(lines, heads, 1, 1) * N
    rows = x.reshape(-1, D).index_select(0, (index + start).flatten())
    return rows.view(*index.shape, D)


def _candidate_logits(
    q: Tensor, k: Tensor, candidates: Tensor, q_table: Tensor | None, k_table: Tensor | None
) -> Tensor:
    """Logits ``(lines, heads, W, K)`` of the candidates of every query."""
    found = _rows(k, candidates)
    places = q.unsqueeze(-2)
    logits = (places * found).sum(-1)
    if q_table is None or k_table is None:
        return logits
    W = q.shape[2]
    here = torch.arange(W, device=q.device).view(W, 1)
    difference = W - 1 - here + candidates
    heads = torch.arange(q.shape[1], device=q.device).view(-1, 1, 1) * q_table.shape[1]
    index = (difference + heads).flatten()
    q_relative, k_relative = (
        table.flatten(0, 1).index_select(0, index).view_as(found) for table in (q_table, k_table)
    )
    return logits + (places * k_relative).sum(-1) + (found * q_relative).sum(-1)
