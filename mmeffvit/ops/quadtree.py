"""QuadTree attention (Tang et al., "QuadTree Attention for Vision Transformers", ICLR 2022).

A pyramid of queries, keys and values is walked from the coarsest level to the finest. The coarsest
level attends to every key; at each finer level the four children of a query look only at the
children of the ``K`` keys that their parent kept. All tensors are head-first and in quad order
(:mod:`mmeffvit.ops.layout`), so the children of node ``p`` are nodes ``4p .. 4p + 3``.

The fast path gathers the candidates once per parent in rows of four children and works in chunks
of parents: beside its inputs and outputs it needs one buffer of at most ``CHUNK_BYTES`` (or of 32
parents, where that is more) in forward and three of them in backward. For backward it keeps the
attention weights, ``4K`` per query, and never a gathered key.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dispatch import Op
from .precision import accurate, without_autocast

KINDS = ('A', 'B')
CHUNK_BYTES = 1 << 20
_MIN_CHUNK = 32
#: Candidates that fit the registers of the Triton kernels.
KERNEL_MAX_TOPK = 32


def quadtree_attention(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    topks: Sequence[int],
    kind: str = 'B',
    *,
    level_weight: Tensor | None = None,
    position: Sequence[Tensor | None] | None = None,
    key_masks: Sequence[Tensor] | None = None,
    drop_lone_level: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Attend over pyramids of queries, keys and values.

    Queries and keys may have different grids; both pyramids have ``L`` levels. Scores, softmax and
    selection run in float32 (float64 for float64 inputs), also under autocast.

    Args:
        queries (Sequence[Tensor]): ``L`` tensors ``(B, heads, Nq_l, D)``, coarsest first, each
            level four times the one before, in quad order.
        keys (Sequence[Tensor]): ``L`` tensors ``(B, heads, Nk_l, D)``.
        values (Sequence[Tensor]): ``L`` tensors ``(B, heads, Nk_l, D)``.
        topks (Sequence[int]): Keys kept per query and level, coarsest first; only the first
            ``L - 1`` matter. Clamped to the number of candidates.
        kind (str): ``'A'`` multiplies scores along the tree and counts a region once, ``'B'``
            normalises every level and mixes levels.
        level_weight (Tensor, optional): ``(L,)``, softmaxed into the mix of kind ``'B'``.
        position (Sequence[Tensor], optional): Per level a message ``(B, heads, Nq_l, D)`` added
            to the attention's own (LePE), or None.
        key_masks (Sequence[Tensor], optional): Per level a boolean ``(B or 1, Nk_l)``, False
            where a key must not be seen; a parent is seen if any of its children is.
        drop_lone_level (bool): Kind ``'A'`` with one level: drop the selected keys from the
            message as the authors' code does, instead of treating the level as final.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B, heads, Nq, D)`` of the finest level, in quad order.

    Raises:
        ValueError: If the pyramids, ``topks``, ``kind`` or ``level_weight`` do not fit.

    Source: sections 3.1 and 3.2 of the paper; details from the authors' code.
    """
    num_levels = len(queries)
    _check_arguments(queries, keys, values, topks, kind, level_weight)
    mix = accurate(level_weight).softmax(0) if kind == 'B' else None
    B, num_heads, _, D = queries[0].shape
    scale = D**-0.5

    out = index = score = None
    with without_autocast(queries[0]):
        for level in range(num_levels):
            q, k, v = (x[level].flatten(0, 1) for x in (queries, keys, values))
            mask = None if key_masks is None else _mask_per_head(key_masks[level], B, num_heads)
            last = level == num_levels - 1
            topk = 0 if last else topks[level]
            if level == 0:
                lone_topk = topks[0] if kind == 'A' and last and drop_lone_level else 0
                message, index, score = _coarsest(q, k, v, mask, scale, topk or lone_topk, kind)
            else:
                parents = score if kind == 'A' else None
                message, index, score = quadtree_fine(
                    q, k, v, index, parents, mask, scale=scale, topk=topk, backend=backend
                )
            message = message.unflatten(0, (B, num_heads))
            if position is not None and position[level] is not None:
                message = message + position[level]
            out = _merge(out, message, None if mix is None else mix[level])
    return out


def quadtree_fine(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    scale: float,
    topk: int = 0,
    backend: str | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Attend on one finer level: every query to the children of the keys its parent kept.

    Args:
        q (Tensor): ``(G, Nq, D)`` queries in quad order, ``G`` = batch times heads.
        k (Tensor): ``(G, Nk, D)`` keys in quad order.
        v (Tensor): ``(G, Nk, D)`` values.
        index (Tensor): ``(G, Nq / 4, K)`` integer nodes of the coarser key level.
        parent_score (Tensor, optional): ``(G, Nq / 4, K)``; if given, kind ``'A'``: softmax over
            the four children of each parent, times the parent's score.
        key_mask (Tensor, optional): Boolean ``(G, Nk)``, False where a key must not be seen.
        scale (float): Temperature of the logits.
        topk (int): Candidates to keep per query for the next level; 0 on the finest level.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        tuple: Messages ``(G, Nq, D)``; kept nodes ``(G, Nq, min(topk, 4K))`` and their scores of
        the same shape in descending order, both None for ``topk=0``. Scores carry a gradient in
        kind ``'A'`` only, where the kept candidates are left out of the message. Messages and
        scores are in float32 for half-precision inputs.
    """
    return _FINE(q, k, v, index, parent_score, key_mask, scale=scale, topk=topk, backend=backend)


def _check_arguments(queries, keys, values, topks, kind, level_weight) -> None:
    num_levels = len(queries)
    if kind not in KINDS:
        raise ValueError(f"QuadTree attention has kinds 'A' and 'B', not {kind!r}.")
    if not len(keys) == len(values) == num_levels:
        raise ValueError(
            f'The pyramids have {num_levels} query, {len(keys)} key and {len(values)} value '
            'levels; give as many of each.'
        )
    if len(topks) < num_levels or min(topks[:num_levels]) < 1:
        raise ValueError(f'topks={tuple(topks)} must hold {num_levels} positive numbers.')
    for pyramid in (queries, keys):
        lengths = [x.shape[2] for x in pyramid]
        if any(fine != 4 * coarse for coarse, fine in pairwise(lengths)):
            raise ValueError(f'Each level must be four times the coarser one, got {lengths}.')
    if kind == 'B' and (level_weight is None or level_weight.shape != (num_levels,)):
        shape = None if level_weight is None else tuple(level_weight.shape)
        raise ValueError(f"Kind 'B' needs level_weight of shape ({num_levels},), got {shape}.")


def _mask_per_head(mask: Tensor, batch: int, num_heads: int) -> Tensor:
    return mask[:, None].expand(batch, num_heads, -1).flatten(0, 1)


def _hide(logits: Tensor, mask: Tensor) -> Tensor:
    # Finite, so that a row with no visible key gives numbers and not NaN.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min)


def _merge(coarser: Tensor | None, message: Tensor, weight: Tensor | None) -> Tensor:
    """Add a level's message to the coarser sum, copied to its four children."""
    if coarser is None:
        return message if weight is None else message * weight
    children = message.unflatten(2, (-1, 4))
    up = coarser.unsqueeze(3)
    out = up + children if weight is None else torch.addcmul(up, children, weight)
    return out.flatten(2, 3)


def _coarsest(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, topk: int, kind: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Full attention; see :func:`quadtree_fine` for what is returned."""
    q, k, v = accurate(q), accurate(k), accurate(v)
    if not topk:
        # Exporters know the fused product with a dimension for heads only.
        q, k, v = (x.unsqueeze(1) for x in (q, k, v))
        mask = None if mask is None else mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.squeeze(1), None, None
    logits = (q * scale) @ k.transpose(1, 2)
    weights = (logits if mask is None else _hide(logits, mask.unsqueeze(1))).softmax(-1)
    score, index = weights.topk(min(topk, k.shape[1]), dim=-1)
    if kind == 'A':
        weights = weights.scatter(-1, index, 0)
    return weights @ v, index, score


def _fine_reference(q, k, v, index, parent_score=None, key_mask=None, *, scale, topk):
    q, k, v = accurate(q), accurate(k), accurate(v)
    D, K = q.shape[-1], index.shape[-1]
    children = 4 * index.unsqueeze(-1) + torch.arange(4, device=index.device)
    candidates = children.flatten(2)  # (G, Nq/4, 4K)

    def gather(x: Tensor) -> Tensor:  # (G, Nk, D) -> (G, Nq/4, 4K, D)
        rows = candidates.flatten(1).unsqueeze(-1).expand(-1, -1, D)
        return x.gather(1, rows).unflatten(1, (-1, 4 * K))

    logits = torch.einsum('gpid,gpcd->gpic', q.unflatten(1, (-1, 4)), gather(k)) * scale
    if key_mask is not None:
        seen = key_mask.gather(1, candidates.flatten(1)).unflatten(1, (-1, 4 * K))
        logits = _hide(logits, seen.unsqueeze(2))
    if parent_score is None:
        weights = logits.softmax(-1)
    else:
        siblings = logits.unflatten(-1, (K, 4)).softmax(-1)
        weights = (siblings * parent_score[:, :, None, :, None]).flatten(-2)

    score = kept = None
    used = weights
    if topk:
        score, location = weights.topk(min(topk, 4 * K), dim=-1)
        kept = candidates.unsqueeze(2).expand(-1, -1, 4, -1).gather(-1, location).flatten(1, 2)
        score = score.flatten(1, 2)
        if parent_score is None:
            score = score.detach()
        else:
            used = weights.scatter(-1, location, 0)
    out = torch.einsum('gpic,gpcd->gpid', used, gather(v)).flatten(1, 2)
    return out, kept, score


def _fine_fast(q, k, v, index, parent_score=None, key_mask=None, *, scale, topk):
    q, k, v = accurate(q), accurate(k), accurate(v)
    floats = [x for x in (q, k, v, parent_score) if x is not None]
    if torch.is_grad_enabled() and any(x.requires_grad for x in floats):
        return _FineLevel.apply(q, k, v, index, parent_score, key_mask, scale, topk)
    return _fine_forward(q, k, v, index, parent_score, key_mask, scale, topk)[:3]


def _fine_forward(q, k, v, index, parent_score, key_mask, scale, topk, keep=False):
    """The chunked forward pass.

    Returns:
        tuple: What :func:`quadtree_fine` returns, then, if ``keep``, the tensors for backward.
    """
    (G, Nq, D), K = q.shape, index.shape[-1]
    parents = G * Nq // 4
    nodes = flat_nodes(index, k.shape[1] // 4)
    q = q.contiguous().view(parents, 4, D)
    table_k, table_v = (x.contiguous().view(-1, 4 * D) for x in (k, v))
    mask_table = None if key_mask is None else key_mask.reshape(-1, 4)
    if parent_score is not None:
        parent_score = parent_score.reshape(parents, 1, K, 1)
    topk = min(topk, 4 * K)

    out = torch.empty_like(q)
    # Probabilities: over the candidates (kind B), or within siblings (kind A).
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
        groups = p if parent_score is None else p.view(-1, 4, K, 4)
        torch.softmax(groups, -1, out=groups)
        used = p if parent_score is None else (groups * parent_score[chunk]).view_as(p)
        if topk:
            torch.topk(used, topk, dim=-1, out=(score[chunk], location[chunk]))
            if parent_score is not None:
                used.scatter_(-1, location[chunk], 0)
        torch.index_select(table_v, 0, rows, out=gathered)
        torch.bmm(used, candidates, out=out[chunk])

    kept = kept_nodes(index, location) if topk else None
    saved = (q, table_k, table_v, nodes, probability, parent_score, location, mask_table)
    score = None if score is None else score.view(G, Nq, topk)
    return out.view(G, Nq, D), kept, score, saved if keep else None


class _FineLevel(torch.autograd.Function):
    """Chunked fine level with a hand-written backward that gathers again."""

    @staticmethod
    def forward(ctx, q, k, v, index, parent_score, key_mask, scale, topk):
        out, kept, score, saved = _fine_forward(
            q, k, v, index, parent_score, key_mask, scale, topk, keep=True
        )
        ctx.save_for_backward(*saved)
        ctx.scale, ctx.shapes = scale, (q.shape, k.shape, index.shape)
        if topk:
            ctx.mark_non_differentiable(kept, *([score] if parent_score is None else []))
        return out, kept, score

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out, _, grad_score):
        q, table_k, table_v, nodes, probability, parent_score, location, mask_table = (
            ctx.saved_tensors
        )
        q_shape, k_shape, parent_shape = ctx.shapes
        D, K = q.shape[-1], nodes.shape[1]
        grad_out = grad_out.contiguous().view_as(q)
        grad_q = torch.empty_like(q)
        grad_k, grad_v = torch.zeros_like(table_k), torch.zeros_like(table_v)
        grad_parent = None
        if parent_score is not None:
            grad_parent = torch.empty_like(parent_score)
            if location is not None:
                grad_score = grad_score.reshape(location.shape)

        for chunk, gathered in _chunks(nodes, D, table_k):
            rows = nodes[chunk].flatten()
            p, dout = probability[chunk], grad_out[chunk]
            candidates = gathered.view(-1, 4 * K, D)
            used = p
            if parent_score is not None:
                groups = p.view(-1, 4, K, 4)
                used = (groups * parent_score[chunk]).view_as(p)
                if location is not None:
                    used.scatter_(-1, location[chunk], 0)
            torch.bmm(used.transpose(1, 2), dout, out=candidates)
            grad_v.index_add_(0, rows, gathered)

            torch.index_select(table_v, 0, rows, out=gathered)
            dp = torch.bmm(dout, candidates.transpose(1, 2))
            if parent_score is None:
                dlogits = torch._softmax_backward_data(dp, p, -1, p.dtype)
            else:
                if location is not None:
                    dp.scatter_(-1, location[chunk], grad_score[chunk])
                dgroups = dp.view_as(groups)
                grad_parent[chunk] = (dgroups * groups).sum((1, 3)).view(-1, 1, K, 1)
                dgroups = dgroups * parent_score[chunk]
                dlogits = torch._softmax_backward_data(dgroups, groups, -1, p.dtype).view_as(p)
            if mask_table is not None:
                dlogits.masked_fill_(_hidden(mask_table, rows, K), 0)
            dlogits.mul_(ctx.scale)

            torch.index_select(table_k, 0, rows, out=gathered)
            torch.bmm(dlogits, candidates, out=grad_q[chunk])
            torch.bmm(dlogits.transpose(1, 2), q[chunk], out=candidates)
            grad_k.index_add_(0, rows, gathered)

        grad_parent = None if grad_parent is None else grad_parent.view(parent_shape)
        return (
            grad_q.view(q_shape),
            grad_k.view(k_shape),
            grad_v.view(k_shape),
            None,
            grad_parent,
            *[None] * 3,
        )


def flat_nodes(index: Tensor, num_parents: int) -> Tensor:
    """Nodes of every head numbered through: rows of a ``(G * num_parents, 4D)`` table."""
    G, _, K = index.shape
    heads = torch.arange(G, device=index.device).view(G, 1, 1) * num_parents
    return (index + heads).view(-1, K)


def kept_nodes(index: Tensor, location: Tensor) -> Tensor:
    """Map places in the candidate list ``(G * P, 4, k)`` to nodes ``(G, 4P, k)``."""
    G, P, K = index.shape
    parents = index.reshape(G * P, K).gather(1, (location >> 2).flatten(1)).view_as(location)
    return (4 * parents + (location & 3)).view(G, 4 * P, -1)


def _hidden(mask_table: Tensor, rows: Tensor, topk: int) -> Tensor:
    return ~mask_table.index_select(0, rows).view(-1, 1, 4 * topk)


def _chunk_size(topk: int, head_dims: int, like: Tensor) -> int:
    return max(_MIN_CHUNK, CHUNK_BYTES // (4 * topk * head_dims * like.element_size()))


def _chunks(nodes: Tensor, head_dims: int, table: Tensor):
    """Slices over the parents, each with a reused buffer ``(parents * K, 4D)``."""
    parents, K = nodes.shape
    size = min(parents, _chunk_size(K, head_dims, table))
    buffer = table.new_empty(size * K, table.shape[1])
    for start in range(0, parents, size):
        stop = min(start + size, parents)
        yield slice(start, stop), buffer[: (stop - start) * K]


def _kernel_obstacle(q, k, v, index, *args, **kwargs) -> str:
    if index.shape[-1] > KERNEL_MAX_TOPK:
        return f'{index.shape[-1]} candidates are over {KERNEL_MAX_TOPK}'
    return '' if q.numel() else 'there are no queries'


_FINE = Op(
    'quadtree_fine',
    reference=_fine_reference,
    fast=_fine_fast,
    triton='mmeffvit.ops.triton.quadtree:fine_level',
    supports=_kernel_obstacle,
)
