"""A finer level of QuadTree attention in chunks that stay in cache, for any device.

The candidates are gathered once per parent, in rows of four children, for some parents at a time:
beside inputs and outputs that takes one buffer of at most :data:`CHUNK_BYTES` (or of 32 parents,
where that is more) in forward and three of them in backward. For backward the attention weights are
kept, ``4K`` per query, and never a gathered key.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..numerics import accurate
from ..topk import top_locations
from .nodes import flat_nodes, kept_nodes

CHUNK_BYTES = 1 << 20
_MIN_CHUNK = 32
_softmax_backward = torch._softmax_backward_data  # pyright: ignore[reportPrivateImportUsage]


def fine_level(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    scale: float,
    topk: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Attend on one finer level; see :func:`mmeffvit.ops.quadtree.quadtree_fine`."""
    q, k, v = accurate(q), accurate(k), accurate(v)
    floats = [x for x in (q, k, v, parent_score) if x is not None]
    if torch.is_grad_enabled() and any(x.requires_grad for x in floats):
        out, score, location = _FineLevel.apply(q, k, v, index, parent_score, key_mask, scale, topk)
    else:
        out, score, location, _ = forward(
            q, k, v, index, parent_score, key_mask, scale, topk, keep=False
        )
    return out, None if location is None else kept_nodes(index, location), score


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None,
    key_mask: Tensor | None,
    scale: float,
    topk: int,
    keep: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """Attend chunk after chunk.

    Args:
        q (Tensor): ``(G, Nq, D)``; everything is float32 or float64.
        k (Tensor): ``(G, Nk, D)``.
        v (Tensor): ``(G, Nk, D)``.
        index (Tensor): ``(G, Nq / 4, K)``.
        parent_score (Tensor, optional): ``(G, Nq / 4, K)``.
        key_mask (Tensor, optional): Boolean ``(G, Nk)``.
        scale (float): Temperature of the logits.
        topk (int): Candidates to keep, or 0.
        keep (bool): Return the attention weights of all chunks.

    Returns:
        tuple: Messages ``(G, Nq, D)``; for ``topk`` scores ``(G, Nq, k)`` and places ``(G * Nq / 4,
        4, k)`` of the kept candidates in their parent's list, else None; weights ``(G * Nq / 4, 4,
        4K)`` over the candidates (kind ``'B'``) or within siblings (kind ``'A'``), of the last
        chunk unless ``keep``.
    """
    (G, Nq, D), K = q.shape, index.shape[-1]
    parents = G * Nq // 4
    nodes = flat_nodes(index, k.shape[1] // 4)
    q = q.contiguous().view(parents, 4, D)
    table_k, table_v = (x.contiguous().view(-1, 4 * D) for x in (k, v))
    mask_table = None if key_mask is None else key_mask.reshape(-1, 4)
    above = None if parent_score is None else parent_score.reshape(parents, 1, K, 1)
    topk = min(topk, 4 * K)

    out = torch.empty_like(q)
    rows_kept = parents if keep else min(parents, _chunk_size(K, D, q))
    probability = q.new_empty(rows_kept, 4, 4 * K)
    score = location = None
    if topk:
        score = q.new_empty(parents, 4, topk)
        location = torch.empty(parents, 4, topk, dtype=torch.long, device=q.device)
    for chunk, gathered in _chunks(nodes, D, table_k):
        rows = nodes[chunk].flatten()
        p = probability[chunk] if keep else probability[: chunk.stop - chunk.start]
        torch.index_select(table_k, 0, rows, out=gathered)
        candidates = gathered.view(-1, 4 * K, D)
        torch.baddbmm(p, q[chunk], candidates.transpose(1, 2), beta=0, alpha=scale, out=p)
        if mask_table is not None:
            p.masked_fill_(_hidden(mask_table, rows, K), torch.finfo(p.dtype).min)
        groups = p if above is None else p.view(-1, 4, K, 4)
        torch.softmax(groups, -1, out=groups)
        used = p if above is None else (groups * above[chunk]).view_as(p)
        if score is not None and location is not None:
            location[chunk] = top_locations(used, topk)
            torch.gather(used, -1, location[chunk], out=score[chunk])
            if above is not None:
                used.scatter_(-1, location[chunk], 0)
        torch.index_select(table_v, 0, rows, out=gathered)
        torch.bmm(used, candidates, out=out[chunk])
    score = None if score is None else score.view(G, Nq, topk)
    return out.view(G, Nq, D), score, location, probability


def backward(
    grad_out: Tensor,
    grad_score: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None,
    key_mask: Tensor | None,
    location: Tensor | None,
    probability: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of ``q, k, v`` and ``parent_score``.

    Args:
        grad_out (Tensor): ``(G, Nq, D)``, of the messages.
        grad_score (Tensor, optional): ``(G, Nq, k)``, of the scores, in kind ``'A'``.
        q (Tensor): As in :func:`forward`, as are the next five.
        k (Tensor): Keys.
        v (Tensor): Values.
        index (Tensor): Parents of the candidates.
        parent_score (Tensor, optional): Their scores, in kind ``'A'``.
        key_mask (Tensor, optional): Keys that may be seen.
        location (Tensor, optional): What :func:`forward` returned, as is the next.
        probability (Tensor): The weights of all chunks.
        scale (float): As in :func:`forward`.
    """
    (G, Nq, D), K = q.shape, index.shape[-1]
    parents = G * Nq // 4
    nodes = flat_nodes(index, k.shape[1] // 4)
    queries = q.contiguous().view(parents, 4, D)
    table_k, table_v = (x.contiguous().view(-1, 4 * D) for x in (k, v))
    mask_table = None if key_mask is None else key_mask.reshape(-1, 4)
    above = None if parent_score is None else parent_score.reshape(parents, 1, K, 1)
    grad_out = grad_out.contiguous().view_as(queries)
    grad_q = torch.empty_like(queries)
    grad_k, grad_v = torch.zeros_like(table_k), torch.zeros_like(table_v)
    grad_parent = None if above is None else torch.empty_like(above)
    dropped = None if above is None else location  # the kept ones are left out of the message
    if dropped is not None and grad_score is not None:
        grad_score = grad_score.reshape(dropped.shape)

    for chunk, gathered in _chunks(nodes, D, table_k):
        rows = nodes[chunk].flatten()
        p, dout = probability[chunk], grad_out[chunk]
        candidates = gathered.view(-1, 4 * K, D)
        used = p
        groups = p.view(-1, 4, K, 4)
        if above is not None:
            used = (groups * above[chunk]).view_as(p)
            if dropped is not None:
                used.scatter_(-1, dropped[chunk], 0)
        torch.bmm(used.transpose(1, 2), dout, out=candidates)
        grad_v.index_add_(0, rows, gathered)

        torch.index_select(table_v, 0, rows, out=gathered)
        dp = torch.bmm(dout, candidates.transpose(1, 2))
        if above is None or grad_parent is None:
            dlogits = _softmax_backward(dp, p, -1, p.dtype)
        else:
            if dropped is not None:
                chosen = 0 if grad_score is None else grad_score[chunk]
                dp.scatter_(-1, dropped[chunk], chosen)
            dgroups = dp.view_as(groups)
            grad_parent[chunk] = (dgroups * groups).sum((1, 3)).view(-1, 1, K, 1)
            dgroups = dgroups * above[chunk]
            dlogits = _softmax_backward(dgroups, groups, -1, p.dtype).view_as(p)
        if mask_table is not None:
            dlogits.masked_fill_(_hidden(mask_table, rows, K), 0)
        dlogits.mul_(scale)

        torch.index_select(table_k, 0, rows, out=gathered)
        torch.bmm(dlogits, candidates, out=grad_q[chunk])
        torch.bmm(dlogits.transpose(1, 2), queries[chunk], out=candidates)
        grad_k.index_add_(0, rows, gathered)

    grad_parent = None if grad_parent is None else grad_parent.view(index.shape)
    return grad_q.view(q.shape), grad_k.view(k.shape), grad_v.view(v.shape), grad_parent


class _FineLevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, index, parent_score, key_mask, scale, topk):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out, score, location, probability = forward(
            q, k, v, index, parent_score, key_mask, scale, topk, keep=True
        )
        dropped = None if parent_score is None else location
        ctx.save_for_backward(q, k, v, index, parent_score, key_mask, dropped, probability)
        ctx.scale = scale
        if topk:
            ctx.mark_non_differentiable(location, *([score] if parent_score is None else []))
        return out, score, location

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out, grad_score, _):
        *grads, grad_parent = backward(grad_out, grad_score, *ctx.saved_tensors, scale=ctx.scale)
        return *grads, None, grad_parent, *[None] * 3


def _hidden(mask_table: Tensor, rows: Tensor, topk: int) -> Tensor:
    return ~mask_table.index_select(0, rows).view(-1, 1, 4 * topk)


def _chunk_size(topk: int, head_dims: int, like: Tensor) -> int:
    return max(_MIN_CHUNK, CHUNK_BYTES // (4 * topk * head_dims * like.element_size()))


def _chunks(nodes: Tensor, head_dims: int, table: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices over the parents, each with a reused buffer ``(parents * K, 4D)``."""
    parents, K = nodes.shape
    size = max(1, min(parents, _chunk_size(K, head_dims, table)))  # an empty batch has none
    buffer = table.new_empty(size * K, table.shape[1])
    for start in range(0, parents, size):
        stop = min(start + size, parents)
        yield slice(start, stop), buffer[: (stop - start) * K]
