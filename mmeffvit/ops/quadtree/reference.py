"""A finer level of QuadTree attention with every candidate gathered for every query."""

from __future__ import annotations

import torch
from torch import Tensor

from ..numerics import accurate


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
    D, K = q.shape[-1], index.shape[-1]
    children = 4 * index.unsqueeze(-1) + torch.arange(4, device=index.device)
    candidates = children.flatten(2)  # (G, Nq/4, 4K)

    def gather(x: Tensor) -> Tensor:  # (G, Nk, D) -> (G, Nq/4, 4K, D)
        rows = candidates.flatten(1).unsqueeze(-1).expand(-1, -1, D)
        return x.gather(1, rows).unflatten(1, (-1, 4 * K))

    logits = torch.einsum('gpid,gpcd->gpic', q.unflatten(1, (-1, 4)), gather(k)) * scale
    if key_mask is not None:
        seen = key_mask.gather(1, candidates.flatten(1)).unflatten(1, (-1, 4 * K))
        logits = hide(logits, seen.unsqueeze(2))
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


def hide(logits: Tensor, mask: Tensor) -> Tensor:
    """Give the smallest finite logit to keys that must not be seen."""
    # Finite, so that a row with no visible key gives numbers and not NaN.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
