"""The weights behind the ops' results, by the ops' own arithmetic, for a look inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import accurate, without_autocast
from .quadtree import coarsest_level, mask_per_head, quadtree_fine
from .slide import slide_attention


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax weights ``(..., N, M)`` of queries ``(..., N, D)`` and keys ``(..., M, D)``."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(-1)


def quadtree_selection(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    topks: Sequence[int],
    kind: str = 'B',
    *,
    key_masks: Sequence[Tensor] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Which keys every query of :func:`quadtree_attention` keeps on each level.

    Args:
        queries (Sequence[Tensor]): As there.
        keys (Sequence[Tensor]): As there.
        topks (Sequence[int]): As there; on the finest level every candidate is returned.
        kind (str): As there.
        key_masks (Sequence[Tensor], optional): As there.

    Returns:
        list[tuple]: Per level nodes and scores, both ``(B, heads, Nq_l, K_l)``, best first. A score
        is the share of the level's candidates, for kind ``'A'`` times that of the parent.
    """
    B, num_heads, _, D = queries[0].shape
    index = score = None
    levels = []
    with without_autocast(queries[0]):
        for level, (q, k) in enumerate(zip(queries, keys)):
            q, k = (accurate(x).flatten(0, 1) for x in (q, k))
            mask = None if key_masks is None else mask_per_head(key_masks[level], B, num_heads)
            topk = k.shape[1] if level == len(queries) - 1 else topks[level]
            if level == 0:
                _, index, score = coarsest_level(q, k, k, mask, D**-0.5, topk, kind)
            else:
                parents = score if kind == 'A' else None
                _, index, score = quadtree_fine(
                    q, k, k, index, parents, mask, scale=D**-0.5, topk=topk
                )
            levels.append(tuple(x.unflatten(0, (B, num_heads)) for x in (index, score)))
    return levels


def slide_weights(
    q: Tensor, k: Tensor, weight: Tensor, bias: Tensor | None, rpb: Tensor | None, **options
) -> Tensor:
    """Attention weights of the taps of :func:`slide_attention`.

    Where the bank of the values is zero and its bias one-hot, the op hands its weights out.

    Args:
        q (Tensor): As there, as are the next four.
        k (Tensor): Keys.
        weight (Tensor): Bank.
        bias (Tensor, optional): Its bias.
        rpb (Tensor, optional): Relative position bias.
        **options: ``padding_mode``, ``mask_borders``.

    Returns:
        Tensor: ``(B, H, W, heads, K)``; they sum to 1 over the taps, row-major.
    """
    D, taps, _ = weight.shape
    parts = []
    for chosen in torch.eye(taps, dtype=weight.dtype, device=weight.device).split(D):
        one_hot = F.pad(chosen, (0, 0, 0, D - len(chosen)))
        out = slide_attention(
            q,
            k,
            k,
            weight,
            bias,
            rpb,
            value_weight=torch.zeros_like(weight),
            value_bias=one_hot,
            **options,
        )
        parts.append(out[..., : len(chosen)])
    return torch.cat(parts, -1)
