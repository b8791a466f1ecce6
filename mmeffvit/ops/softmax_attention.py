"""Softmax attention of every query to every key: what all efficient attention is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .dispatch import Op
from .precision import without_autocast

#: Bytes of scores that one step keeps in cache.
CHUNK_BYTES = 2**20


def _reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _fast(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if q.device.type != 'cpu' or q.dtype != torch.bfloat16 or needs_grad or bias is not None:
        return _reference(q, k, v, bias)
    return _by_chunks(q, k, v)


def _by_chunks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Some heads, or some rows of one, at a time.

    PyTorch's fused kernel takes about twice as long in bfloat16 on CPUs whose matrix products of
    that type are oneDNN's alone. Scores are rounded to bfloat16, as in attention written out under
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


#: Softmax attention, scores scaled by the root of the head width.
#:
#: ``softmax_attention(q, k, v, bias=None)`` with queries ``(B, heads, N, D)``, keys and values
#: ``(B, heads, M, D)`` and a bias that is added to the scores, broadcast to ``(B, heads, N, M)``.
softmax_attention = Op('softmax_attention', _reference, _fast)
