"""Slide attention as an operator that compiled graphs keep."""

from __future__ import annotations

import importlib
from math import isqrt

import torch
from torch import Tensor

from ..numerics import accurate
from ..operators import register
from . import cpu
from .reference import outside_map, pad_map


def slide_attention(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    margin: int,
    mask_borders: bool,
) -> Tensor:
    """Call the operator with a backend; see :func:`.reference.slide_attention`."""
    if backend != 'triton':
        q = accurate(q).contiguous()
        k, v = (pad_map(accurate(x), margin) for x in (k, v))
        margin = 0
    tensors = q, k, v, key_bank, value_bank, key_bias, value_bias
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return torch.ops.mmeffvit.slide_attention(*tensors, margin, mask_borders, keep, backend)[0]


def _triton():
    return importlib.import_module(f'{__package__}.triton')


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    margin: int,
    mask_borders: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """The output, and for backward the weights where the backend needs them."""
    tables = key_bank, value_bank, key_bias, value_bias
    if backend == 'triton':
        with torch.cuda.device_of(q):
            return _triton().forward(q, k, v, *tables, margin, mask_borders), q.new_empty(0)
    outside = outside_map(q.shape[1:3], isqrt(len(key_bank)), q.device) if mask_borders else None
    out, probability = cpu.forward(q.contiguous(), k, v, *tables, outside, keep)
    return out, probability if keep else q.new_empty(0)


def _fake_forward(
    q, k, v, key_bank, value_bank, key_bias, value_bias, margin, mask_borders, keep, backend
):
    out = q.new_empty(q.shape)
    weights = q.numel() // q.shape[-1] * key_bank.shape[1]
    return out, q.new_empty(weights if keep and backend != 'triton' else 0)


def _backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    probability: Tensor,
    margin: int,
    mask_borders: bool,
    backend: str,
) -> tuple[Tensor, ...]:
    tensors = q, k, v, key_bank, value_bank, key_bias, value_bias
    if backend == 'triton':
        with torch.cuda.device_of(q):
            return _triton().backward(grad_out, *tensors, margin, mask_borders)
    tensors = q.contiguous(), *tensors[1:]
    return cpu.backward(*tensors, probability, grad_out.contiguous())


def _fake_backward(grad_out, *arguments):
    return tuple(x.new_empty(x.shape) for x in arguments[:7])


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.margin, ctx.mask_borders, _, ctx.backend = inputs
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx, grad_out, _):
    grads = torch.ops.mmeffvit.slide_attention_backward(
        grad_out, *ctx.saved_tensors, ctx.margin, ctx.mask_borders, ctx.backend
    )
    return *grads, *[None] * 4


def _flops(q, k, v, key_bank, *_, out_shape, **__) -> int:
    """Keys and values through the bank, scores and sums, as in the reference."""
    B, H, W, heads, D = q
    taps = key_bank[1]
    return 2 * B * H * W * heads * D * taps * (2 * taps + 2)


def _flops_backward(grad_out, q, k, v, key_bank, *_, out_shape, **__) -> int:
    return 2 * _flops(q, k, v, key_bank, out_shape=None)


_INPUTS = (
    'Tensor q, Tensor k, Tensor v, Tensor key_bank, Tensor value_bank, Tensor key_bias, '
    'Tensor value_bias'
)
register(
    f'slide_attention_backward(Tensor grad_out, {_INPUTS}, Tensor probability, SymInt margin, '
    'bool mask_borders, str backend) '
    '-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    _backward,
    _fake_backward,
    flops=_flops_backward,
)
register(
    f'slide_attention({_INPUTS}, SymInt margin, bool mask_borders, bool keep, str backend) '
    '-> (Tensor, Tensor)',
    _forward,
    _fake_forward,
    flops=_flops,
    backward=_differentiate,
    setup_context=_setup_context,
)
