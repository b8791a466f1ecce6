"""Two-way cross-attention between few compressed and many lookup tokens (LookupViT, ECCV 2024).

:func:`lookup_gather` lets ``M`` compressed tokens read from ``N`` lookup tokens and returns its
attention weights; :func:`lookup_infuse` sends messages back by the same weights, transposed.

With few compressed tokens it is cheaper to move a projection of the ``N`` lookup tokens to the
other side of the product ("absorb" it): ``A (X W^T + b) = (A X) W^T + b`` as rows of ``A`` sum to
1, ``Q (X W^T + b)^T = (Q W) X^T`` plus a constant per row that softmax ignores, and the same holds
for an output projection. The fast path decides by shapes which form multiplies less, so it never
costs more than the reference and agrees with it to rounding.

Memory: the weights are ``B * heads * M * N`` numbers; with 12 heads in float32, per image and
layer, that is 4.9 MB for 5x5 tokens and a 1024x1024 image in patches of 16, 51 MB for 12x21 tokens
and 800x1344. Softmax and both products keep the same tensor for backward; the forward of a layer
leaves nothing else of this size. Under activation checkpointing of a block it is not kept, and
backward repeats the projections, the logits and the softmax once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .dispatch import Op
from .numerics import accurate
from .operators import register_composite


class Projection(NamedTuple):
    """Deferred linear layer: its parameters and the tokens to apply it to.

    Attributes:
        tokens (Tensor): ``(B, N, C)``.
        weight (Tensor): ``(D, C)``.
        bias (Tensor, optional): ``(D,)``.
    """

    tokens: Tensor
    weight: Tensor
    bias: Tensor | None

    def apply(self) -> Tensor:
        """The projected tokens ``(B, N, D)``."""
        return F.linear(self.tokens, self.weight, self.bias)


def lookup_gather(
    queries: Tensor,
    keys: Tensor | Projection,
    values: Projection,
    num_heads: int,
    *,
    dropout: float = 0.0,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-attention from compressed to lookup tokens that also returns its weights.

    The softmax over the ``N`` lookup tokens runs in float32 (float64 for float64).

    Args:
        queries (Tensor): ``(B, M, D)`` of the compressed tokens.
        keys (Tensor | Projection): Keys ``(B, N, D)`` of the lookup tokens where a norm stands
            behind their projection, else the projection, which may then be absorbed.
        values (Projection): Values of the lookup tokens, ``(B, N, D)`` when applied.
        num_heads (int): Heads; they divide ``D``.
        dropout (float): Probability of dropping a weight in the message; the weights that are
            returned are not dropped.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        tuple: Messages ``(B, M, D)`` and weights ``(B, heads, M, N)`` whose rows sum to 1.

    Source: LookupViT, algorithm 1.
    """
    return _lookup_gather(queries, keys, values, num_heads, dropout=dropout, backend=backend)


def lookup_infuse(
    weights: Tensor,
    values: Tensor,
    projection: tuple[Tensor, Tensor | None] | None = None,
    *,
    normalise: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Cross-attention from lookup to compressed tokens by the transposed weights of the gathering.

    Args:
        weights (Tensor): ``(B, heads, M, N)``. No second softmax: what a lookup token receives is
            a sum whose weights add up to ``M / N`` on average.
        values (Tensor): ``(B, M, D)`` of the refined compressed tokens.
        projection (tuple, optional): Weight ``(C, D)`` and bias ``(C,)`` or None of an output
            projection.
        normalise (bool): Divide by the sum over ``M``, so that each lookup token receives an
            average, whatever ``N`` and ``M`` are (our choice).
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B, N, D)``, or ``(B, N, C)`` with a projection.

    Source: LookupViT, algorithm 2.
    """
    if normalise:
        total = accurate(weights).sum(2, keepdim=True) + 1e-6
        weights = (weights / total).to(weights.dtype)
    return _lookup_infuse(weights, values, projection, backend=backend)


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """``(B, L, D)`` to ``(B, heads, L, D / heads)``."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _merge_heads(x: Tensor) -> Tensor:
    """``(B, heads, L, d)`` to ``(B, L, heads * d)``."""
    return x.transpose(1, 2).flatten(2)


def _softmax(logits: Tensor) -> Tensor:
    return accurate(logits).softmax(-1).to(logits.dtype)


def _gather_reference(
    queries: Tensor,
    keys: Tensor | Projection,
    values: Projection,
    num_heads: int,
    *,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    keys = keys.apply() if isinstance(keys, Projection) else keys
    q, k, v = (_split_heads(x, num_heads) for x in (queries, keys, values.apply()))
    weights = _softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1))
    return _merge_heads(F.dropout(weights, dropout) @ v), weights


def _gather_fast(
    queries: Tensor,
    keys: Tensor | Projection,
    values: Projection,
    num_heads: int,
    *,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    q = _split_heads(queries, num_heads)
    q = q * q.shape[-1] ** -0.5
    absorb = _absorption_pays(q.shape[2], values, num_heads)
    if isinstance(keys, Projection) and absorb:
        # Adding the key bias would shift each row by a constant.
        q = _per_head(q, keys.weight.unflatten(0, (num_heads, -1)))  # (B, h, M, C)
        logits = _shared_product(q, keys.tokens.transpose(1, 2))
    else:
        keys = keys.apply() if isinstance(keys, Projection) else keys
        logits = q @ _split_heads(keys, num_heads).transpose(-2, -1)
    weights = _softmax(logits)
    used = F.dropout(weights, dropout) if dropout else weights
    if not absorb:
        return _merge_heads(used @ _split_heads(values.apply(), num_heads)), weights
    read = _shared_product(used, values.tokens)  # (B, h, M, C)
    message = _merge_heads(_per_head(read, values.weight.unflatten(0, (num_heads, -1)).mT))
    if values.bias is not None:
        bias = values.bias
        if dropout:  # rows do not sum to 1 any more
            bias = _merge_heads(used.sum(-1, keepdim=True) * bias.view(num_heads, 1, -1))
        message = message + bias
    return message, weights


def _infuse_reference(
    weights: Tensor, values: Tensor, projection: tuple[Tensor, Tensor | None] | None = None
) -> Tensor:
    message = _merge_heads(weights.transpose(-2, -1) @ _split_heads(values, weights.shape[1]))
    return message if projection is None else F.linear(message, *projection)


def _infuse_fast(
    weights: Tensor, values: Tensor, projection: tuple[Tensor, Tensor | None] | None = None
) -> Tensor:
    _, num_heads, M, N = weights.shape
    D = values.shape[-1]
    if projection is None:
        return _infuse_reference(weights, values)
    weight, bias = projection
    C = weight.shape[0]
    plain, absorbed = N * D * (M + C), num_heads * M * C * N + M * D * C
    if plain <= absorbed:
        return _infuse_reference(weights, values, projection)
    rows = _per_head(_split_heads(values, num_heads), weight.T.unflatten(0, (num_heads, -1)))
    out = weights.flatten(1, 2).transpose(1, 2) @ rows.flatten(1, 2)  # (B, N, hM) (B, hM, C)
    return out if bias is None else out + bias


def _absorption_pays(num_queries: int, values: Projection, num_heads: int) -> bool:
    """Whether moving a projection off the lookup tokens saves multiply-adds."""
    (D, C), N = values.weight.shape, values.tokens.shape[1]
    plain = N * D * (C + num_queries)
    absorbed = num_heads * num_queries * C * N + num_queries * D * C
    return absorbed < plain


def _shared_product(x: Tensor, y: Tensor) -> Tensor:
    """``(B, h, M, K) @ (B, K, L)``, all heads in one product."""
    return (x.flatten(1, 2) @ y).unflatten(1, (x.shape[1], -1))


def _per_head(x: Tensor, weight: Tensor) -> Tensor:
    """``(B, h, M, K) @ (h, K, L)`` without a copy of the weight per sample."""
    B, num_heads, M, _ = x.shape
    if B == 1:
        return (x[0] @ weight).unsqueeze(0)
    rows = x.transpose(0, 1).reshape(num_heads, B * M, -1)
    return torch.bmm(rows, weight).unflatten(1, (B, M)).transpose(0, 1)


def _gather_composite(
    queries: Tensor,
    keys: Tensor,
    key_weight: Tensor | None,
    key_bias: Tensor | None,
    values: Tensor,
    value_weight: Tensor,
    value_bias: Tensor | None,
    num_heads: int,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    projected = keys if key_weight is None else Projection(keys, key_weight, key_bias)
    values_projection = Projection(values, value_weight, value_bias)
    return _gather_fast(queries, projected, values_projection, num_heads, dropout=dropout)


def _gather_compiled(
    backend: str,
    queries: Tensor,
    keys: Tensor | Projection,
    values: Projection,
    num_heads: int,
    *,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    projected = keys if isinstance(keys, tuple) else (keys, None, None)
    return torch.ops.mmeffvit.lookup_gather(queries, *projected, *values, num_heads, dropout)


def _infuse_composite(
    weights: Tensor, values: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    return _infuse_fast(weights, values, None if weight is None else (weight, bias))


def _infuse_compiled(
    backend: str,
    weights: Tensor,
    values: Tensor,
    projection: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    return torch.ops.mmeffvit.lookup_infuse(weights, values, *(projection or (None, None)))


register_composite(
    'lookup_gather(Tensor queries, Tensor keys, Tensor? key_weight, Tensor? key_bias, '
    'Tensor values, Tensor value_weight, Tensor? value_bias, SymInt num_heads, float dropout) '
    '-> (Tensor, Tensor)',
    _gather_composite,
)
register_composite(
    'lookup_infuse(Tensor weights, Tensor values, Tensor? projection_weight, '
    'Tensor? projection_bias) -> Tensor',
    _infuse_composite,
)
_lookup_gather = Op(
    'lookup_gather', reference=_gather_reference, fast=_gather_fast, compiled=_gather_compiled
)
_lookup_infuse = Op(
    'lookup_infuse', reference=_infuse_reference, fast=_infuse_fast, compiled=_infuse_compiled
)
