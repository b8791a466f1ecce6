"""Softmax attention of every query to every key, the baseline of the efficient operators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .dispatch import Op
from .numerics import without_autocast
from .operators import register

#: Bytes of scores that one step keeps in cache.
CHUNK_BYTES = 2**20


def _reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _fast(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    return _by_chunks(q, k, v) if _chunks_pay(q, k, v, bias) else _reference(q, k, v, bias)


def _chunks_pay(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> bool:
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    half = q.device.type == 'cpu' and q.dtype == torch.bfloat16
    return half and not needs_grad and bias is None


def _by_chunks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend in some heads, or in some rows of one head, at a time.

    PyTorch's fused kernel takes about twice as long in bfloat16 on CPUs whose matrix products of
    that type are oneDNN's only. Scores are rounded to bfloat16, as in attention written out under
    autocast; the softmax is float32.
    """
    B, num_heads, N, _ = q.shape
    M = k.shape[2]
    q, k, v = (x.flatten(0, 1) for x in (q * q.shape[-1] ** -0.5, k.transpose(-2, -1), v))
    out = torch.empty_like(q)
    rows = max(1, CHUNK_BYTES // (M * q.element_size()))
    heads = max(1, rows // N)
    with without_autocast(q):
        for head in range(0, len(q), heads):
            part = slice(head, head + heads)
            for row in range(0, N, rows):
                scores = q[part, row : row + rows] @ k[part]
                weights = torch.softmax(scores, -1, dtype=torch.float32).to(v.dtype)
                out[part, row : row + rows] = weights @ v[part]
    return out.unflatten(0, (B, num_heads))


def _compiled(backend: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    if _chunks_pay(q, k, v, bias):
        return torch.ops.mmeffvit.softmax_attention(q, k, v)
    return _reference(q, k, v, bias)


def _flops(q, k, v, *, out_shape, **__) -> int:
    B, num_heads, N, D = q
    return 2 * B * num_heads * N * k[2] * (D + v[3])


register(
    'softmax_attention(Tensor q, Tensor k, Tensor v) -> Tensor',
    lambda q, k, v: _by_chunks(q, k, v).contiguous(),
    lambda q, k, v: q.new_empty(q.shape),
    flops=_flops,
)
_softmax_attention = Op('softmax_attention', reference=_reference, fast=_fast, compiled=_compiled)


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Scaled dot-product attention, ``softmax(q k^T / sqrt(D) + bias) v``.

    Args:
        q (Tensor): Queries ``(B, heads, N, D)``.
        k (Tensor): Keys ``(B, heads, M, D)``.
        v (Tensor): Values ``(B, heads, M, D)``.
        bias (Tensor, optional): Added to the scores, broadcast to ``(B, heads, N, M)``.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B, heads, N, D)``.
    """
    return _softmax_attention(q, k, v, bias, backend=backend)
