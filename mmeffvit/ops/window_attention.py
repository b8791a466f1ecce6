"""Attention inside the windows of a grid, with a position bias and the masks of shifted windows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .dispatch import Op
from .layout import Grid
from .numerics import accurate, without_autocast
from .operators import register

_softmax_backward = torch._softmax_backward_data  # pyright: ignore[reportPrivateImportUsage]
#: Added to the score of two tokens that were not adjacent before the shift, as in Swin.
HIDDEN = -100.0
#: Bytes of scores that one step of training keeps in cache.
CHUNK_BYTES = 2**20


def _reference(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, windows: Grid, visible: Tensor | None = None
) -> Tensor:
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias
    if visible is not None:
        rows, columns = windows
        edges = torch.zeros(rows, columns, 1, *visible.shape[2:], device=q.device, dtype=q.dtype)
        hidden = HIDDEN * (~visible).to(q.dtype)
        edges[-1] += hidden[1, 0]
        edges[:, -1] += hidden[0, 1]
        scores = (scores.unflatten(0, (-1, rows, columns)) + edges).flatten(0, 2)
    return scores.softmax(-1) @ v


def _fast(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, windows: Grid, visible: Tensor | None = None
) -> Tensor:
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, bias))
    if needs_grad and q.device.type == 'cpu':
        return _WindowAttention.apply(q, k, v, bias, windows, visible)
    return _forward(q, k, v, bias, windows, visible)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, windows: Grid, visible: Tensor | None
) -> Tensor:
    """Fused attention, once for the inner windows and once for each edge: no mask per window."""
    bias = bias.to(q.dtype)[None]
    if visible is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    rows, columns = windows
    inner_rows, last_row = slice(0, rows - 1), slice(rows - 1, rows)
    inner_columns, last_column = slice(0, columns - 1), slice(columns - 1, columns)
    q, k, v = (x.unflatten(0, (-1, rows, columns)) for x in (q, k, v))
    out = torch.empty_like(q)
    for i, row in enumerate((inner_rows, last_row)):
        for j, column in enumerate((inner_columns, last_column)):
            part = (slice(None), row, column)
            if not q[part].numel():
                continue
            mask = bias if (i, j) == (0, 0) else torch.where(visible[i, j], bias, bias + HIDDEN)
            inputs = (x[part].flatten(0, 2) for x in (q, k, v))
            out[part] = F.scaled_dot_product_attention(*inputs, attn_mask=mask).view_as(q[part])
    return out.flatten(0, 2)


def _forward_kept(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, windows: Grid, visible: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention in chunks of windows that stay in cache, and the softmax, for backward."""
    count, heads, N, _ = q.shape
    scale = q.shape[-1] ** -0.5
    kind = accurate(q).dtype
    hidden = None if visible is None else HIDDEN * (~visible).to(kind)
    weights = q.new_empty(count, heads, N, N)
    out = torch.empty_like(v)
    with without_autocast(q):
        for chunk in _chunks(count, heads * N * N * kind.itemsize):
            scores = (accurate(q[chunk]) * scale) @ accurate(k[chunk]).transpose(-2, -1)
            scores += bias
            if hidden is not None:
                _hide_edges(scores, hidden, windows, chunk.start)
            weights[chunk] = torch.softmax(scores, -1)
            out[chunk] = weights[chunk] @ v[chunk]
    return out, weights


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scale = q.shape[-1] ** -0.5
    grads = [torch.empty_like(x) for x in (q, k, v)]
    bias_grad = torch.zeros_like(bias, dtype=accurate(bias).dtype)
    for chunk in _chunks(len(q), weights[:1].numel() * bias_grad.element_size()):
        part = [accurate(x[chunk]) for x in (q, k, v, weights, grad)]
        _backward_chunk(*part, scale=scale, grads=[x[chunk] for x in grads], bias_grad=bias_grad)
    return grads[0], grads[1], grads[2], bias_grad.to(bias.dtype)


class _WindowAttention(Function):
    @staticmethod
    def forward(ctx, q, k, v, bias, windows, visible):
        out, weights = _forward_kept(q, k, v, bias, windows, visible)
        ctx.save_for_backward(q, k, v, bias, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *_backward(grad, *ctx.saved_tensors), None, None


def _backward_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Tensor,
    grad: Tensor,
    scale: float,
    grads: list[Tensor],
    bias_grad: Tensor,
) -> None:
    """Write the gradients ``grads`` of some windows' q, k and v, and add to the bias's.

    Tensors are ``(n, heads, N, D)``; weights are ``(n, heads, N, N)``; ``bias_grad`` is
    ``(heads, N, N)``.
    """
    with without_autocast(q):
        grads[2].copy_(weights.transpose(-2, -1) @ grad)
        scores_grad = grad @ v.transpose(-2, -1)
        scores_grad = _softmax_backward(scores_grad, weights, -1, weights.dtype)
        bias_grad += scores_grad.sum(0)
        scores_grad *= scale
        grads[0].copy_(scores_grad @ k)
        grads[1].copy_(scores_grad.transpose(-2, -1) @ q)


def _chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of windows whose scores, ``size`` bytes each, stay in cache."""
    step = max(1, CHUNK_BYTES // size)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _hide_edges(scores: Tensor, hidden: Tensor, windows: Grid, start: int) -> None:
    """Add the masks of the last row and column to the windows from ``start`` on."""
    rows, columns = windows
    scores[(-1 - start) % columns :: columns] += hidden[0, 1]
    for image in range(start // (rows * columns), (start + len(scores)) // (rows * columns) + 1):
        first = max(0, (image + 1) * rows * columns - columns - start)
        last = max(0, (image + 1) * rows * columns - start)
        scores[first:last] += hidden[1, 0]


def _compiled(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    windows: Grid,
    visible: Tensor | None = None,
) -> Tensor:
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, bias))
    if q.device.type == 'cpu' and (needs_grad or visible is not None):
        rows, columns = windows
        return torch.ops.mmeffvit.window_attention(
            q, k, v, bias, rows, columns, visible, needs_grad
        )[0]
    return (_forward if visible is None else _reference)(q, k, v, bias, windows, visible)


def _operator(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    rows: int,
    columns: int,
    visible: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    if keep:
        return _forward_kept(q, k, v, bias, (rows, columns), visible)
    out = _forward(q, k, v, bias, (rows, columns), visible)
    return torch.empty_like(q).copy_(out) if visible is None else out, q.new_empty(0)


def _fake(q, k, v, bias, rows, columns, visible, keep):
    count, heads, N, _ = q.shape
    if keep:
        return torch.empty_like(v), q.new_empty(count, heads, N, N)
    return torch.empty_like(q), q.new_empty(0)


def _fake_backward(grad, *tensors):
    return tuple(torch.empty_like(x) for x in tensors[:4])


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:4], output[1])


def _differentiate(ctx, grad, _):
    grads = torch.ops.mmeffvit.window_attention_backward(grad, *ctx.saved_tensors)
    return *grads, *[None] * 4


def _flops(q, *_, out_shape, **__) -> int:
    count, heads, N, D = q
    return 2 * 2 * count * heads * N * N * D


register(
    'window_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor bias, '
    'Tensor weights) -> (Tensor, Tensor, Tensor, Tensor)',
    _backward,
    _fake_backward,
    flops=lambda grad, q, *_, **__: 2 * _flops(q, out_shape=None),
)
register(
    'window_attention(Tensor q, Tensor k, Tensor v, Tensor bias, SymInt rows, SymInt columns, '
    'Tensor? visible, bool keep) -> (Tensor, Tensor)',
    _operator,
    _fake,
    flops=_flops,
    backward=_differentiate,
    setup_context=_setup_context,
)
_window_attention = Op('window_attention', reference=_reference, fast=_fast, compiled=_compiled)


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    windows: Grid,
    visible: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Attend inside the windows of a grid, which may have been rolled.

    Args:
        q (Tensor): Queries ``(B * rows * columns, heads, N, D)``, windows in row-major order.
        k (Tensor): Keys of the same shape.
        v (Tensor): Values of the same shape.
        bias (Tensor): Position bias ``(heads, N, N)``.
        windows (tuple[int, int]): Number of windows ``(rows, columns)`` of an image.
        visible (Tensor, optional): For a rolled grid the boolean masks ``(2, 2, N, N)`` of the
            inner windows, the last column, the last row and the corner, False where a pair of
            tokens was not adjacent before the roll.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B * rows * columns, heads, N, D)``.

    Source: Liu et al., "Swin Transformer", ICCV 2021, section 3.2.
    """
    return _window_attention(q, k, v, bias, windows, visible, backend=backend)
