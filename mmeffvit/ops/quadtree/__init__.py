"""QuadTree attention (Tang et al., "QuadTree Attention for Vision Transformers", ICLR 2022).

A pyramid of queries, keys and values is walked from the coarsest level to the finest. The coarsest
level attends to every key; at each finer level the four children of a query attend to the children
of the ``K`` keys that their parent kept. All tensors are head-first and in quad order
(:mod:`mmeffvit.ops.layout`), so the children of node ``p`` are nodes ``4p .. 4p + 3``.

A finer level has three implementations: :mod:`.reference`, :mod:`.cpu` (chunks of parents, any
device) and :mod:`.triton` (one program per parent).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dispatch import Op, padded_width, width_reason
from ..numerics import accurate, without_autocast
from ..topk import top_locations
from . import cpu, operator, reference

KINDS = ('A', 'B')
#: Candidates that fit the registers of the Triton kernels.
TRITON_MAX_TOPK = 32


def quadtree_attention(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    topks: Sequence[int],
    kind: str = 'B',
    *,
    level_weights: Tensor | None = None,
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
        values (Sequence[Tensor]): ``L`` tensors ``(B, heads, Nk_l, D)``, or fewer for the finest
            levels: the coarser ones then only choose keys for the next level, and the messages
            begin with the first that has values.
        topks (Sequence[int]): Keys kept per query and level, coarsest first; only the first
            ``L - 1`` matter. Clamped to the number of candidates.
        kind (str): ``'A'`` multiplies scores along the tree and counts a region once, ``'B'``
            normalises every level and mixes levels.
        level_weights (Tensor, optional): The weights of the levels with values in the sum of kind
            ``'B'``; in the paper a softmax.
        position (Sequence[Tensor], optional): Per level with values a message
            ``(B, heads, Nq_l, D)`` added to the attention's own (LePE), or None.
        key_masks (Sequence[Tensor], optional): Per level a boolean ``(B or 1, Nk_l)``, False
            where a key must not be seen; a parent is seen if any of its children is.
        drop_lone_level (bool): Kind ``'A'`` with one level: drop the selected keys from the
            message as the authors' code does, instead of treating the level as final.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B, heads, Nq, D)`` of the finest level, in quad order.

    Raises:
        ValueError: If the pyramids, ``topks``, ``kind`` or ``level_weights`` do not fit.

    Source: sections 3.1 and 3.2 of the paper; details from the authors' code.
    """
    num_levels = len(queries)
    choosing = num_levels - len(values)
    _check_arguments(queries, keys, values, topks, kind, level_weights)
    mix = accurate(level_weights) if kind == 'B' and level_weights is not None else None
    B, num_heads, _, D = queries[0].shape
    scale = D**-0.5

    out = index = score = None
    with without_autocast(queries[0]):
        for level in range(num_levels):
            chooses = level < choosing
            value = keys[level] if chooses else values[level - choosing]
            q, k, v = (x.flatten(0, 1) for x in (queries[level], keys[level], value))
            mask = None if key_masks is None else mask_per_head(key_masks[level], B, num_heads)
            last = level == num_levels - 1
            topk = 0 if last else topks[level]
            if index is None:  # at level 0
                lone_topk = topks[0] if kind == 'A' and last and drop_lone_level else 0
                message, index, score = coarsest_level(
                    q, k, v, mask, scale, topk or lone_topk, kind
                )
            else:
                parents = score if kind == 'A' else None
                message, index, score = quadtree_fine(
                    q, k, v, index, parents, mask, scale=scale, topk=topk, backend=backend
                )
            if chooses:
                continue
            message = message.unflatten(0, (B, num_heads))
            local = None if position is None else position[level - choosing]
            if local is not None:
                message = message + local
            out = _merge(out, message, None if mix is None else mix[level - choosing])
    assert out is not None
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
    return _fine(q, k, v, index, parent_score, key_mask, scale=scale, topk=topk, backend=backend)


def coarsest_level(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, topk: int, kind: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Attend to every key, and keep the best ``topk`` of each query.

    Args:
        q (Tensor): ``(G, Nq, D)``, ``G`` = batch times heads.
        k (Tensor): ``(G, Nk, D)``.
        v (Tensor): ``(G, Nk, D)``.
        mask (Tensor, optional): Boolean ``(G, Nk)``, False where a key must not be seen.
        scale (float): Temperature of the logits.
        topk (int): Keys to keep; 0 if there is no finer level.
        kind (str): ``'A'`` leaves the kept keys out of the message.

    Returns:
        tuple: Messages ``(G, Nq, D)``; kept nodes and their scores ``(G, Nq, min(topk, Nk))``, both
        None for ``topk=0``.
    """
    q, k, v = accurate(q), accurate(k), accurate(v)
    if not topk:
        # Exporters know the fused product with a dimension for heads only.
        q, k, v = (x.unsqueeze(1) for x in (q, k, v))
        mask = None if mask is None else mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.squeeze(1), None, None
    logits = (q * scale) @ k.transpose(1, 2)
    weights = (logits if mask is None else reference.hide(logits, mask.unsqueeze(1))).softmax(-1)
    index = top_locations(weights, min(topk, k.shape[1]))
    score = weights.gather(-1, index)
    if kind == 'A':
        weights = weights.scatter(-1, index, 0)
    return weights @ v, index, score


def mask_per_head(mask: Tensor, batch: int, num_heads: int) -> Tensor:
    """Repeat a mask ``(B or 1, N)`` for the heads: ``(B * heads, N)``."""
    return mask[:, None].expand(batch, num_heads, -1).flatten(0, 1)


def _check_arguments(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    topks: Sequence[int],
    kind: str,
    level_weights: Tensor | None,
) -> None:
    num_levels = len(queries)
    if kind not in KINDS:
        raise ValueError(f"QuadTree attention has kinds 'A' and 'B', not {kind!r}.")
    if len(keys) != num_levels:
        raise ValueError(
            f'The pyramids have {num_levels} query and {len(keys)} key levels; give as many.'
        )
    if not 1 <= len(values) <= num_levels or (kind == 'A' and len(values) < num_levels):
        raise ValueError(
            f'{len(values)} value levels do not fit {num_levels} levels of keys; give as many, or '
            "in kind 'B' at least one."
        )
    if len(topks) < num_levels or min(topks[:num_levels]) < 1:
        raise ValueError(f'topks={tuple(topks)} must hold {num_levels} positive numbers.')
    for pyramid in (queries, keys):
        lengths = [x.shape[2] for x in pyramid]
        if any(fine != 4 * coarse for coarse, fine in pairwise(lengths)):
            raise ValueError(f'Each level must be four times the coarser one, got {lengths}.')
    if kind == 'B' and (level_weights is None or level_weights.shape != (len(values),)):
        shape = None if level_weights is None else tuple(level_weights.shape)
        raise ValueError(f"Kind 'B' needs level_weights of shape ({len(values)},), got {shape}.")


def _merge(coarser: Tensor | None, message: Tensor, weight: Tensor | None) -> Tensor:
    """Add a level's message to the coarser sum, copied to its four children."""
    if coarser is None:
        return message if weight is None else message * weight
    children = message.unflatten(2, (-1, 4))
    up = coarser.unsqueeze(3)
    out = up + children if weight is None else torch.addcmul(up, children, weight)
    return out.flatten(2, 3)


def _unsupported_reason(q: Tensor, k: Tensor, v: Tensor, index: Tensor, *_, **__) -> str:
    if index.shape[-1] > TRITON_MAX_TOPK:
        return f'{index.shape[-1]} candidates are over {TRITON_MAX_TOPK}'
    return width_reason(q.shape[-1]) if q.numel() else 'there are no queries'


def _small_problem(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    scale: float,
    topk: int,
) -> tuple[Hashable, Callable[[], tuple[tuple, dict]]]:
    D, K = q.shape[-1], index.shape[-1]
    weighted, masked = parent_score is not None, key_mask is not None
    variant = padded_width(D), padded_width(4 * K) // 4, weighted, masked, bool(topk)

    def make() -> tuple[tuple, dict]:
        generator = torch.Generator().manual_seed(0)
        heads, parents, key_parents = 2, 5, K + 3
        queries = torch.randn(heads, 4 * parents, D, generator=generator)
        tables = torch.randn(2, heads, 4 * key_parents, D, generator=generator)
        places = torch.rand(heads, parents, key_parents, generator=generator)
        scores = torch.rand(heads, parents, K, generator=generator) if weighted else None
        mask = torch.rand(heads, 4 * key_parents, generator=generator) > 0.2 if masked else None
        args = (queries.to(q.dtype), *tables.to(q.dtype), places.topk(K).indices, scores, mask)
        return args, dict(scale=D**-0.5, topk=topk)

    return variant, make


_fine = Op(
    'quadtree_fine',
    reference=reference.fine_level,
    fast=cpu.fine_level,
    triton=f'{__name__}.triton:fine_level',
    unsupported_reason=_unsupported_reason,
    small_problem=_small_problem,
    compiled=operator.fine_level,
)
