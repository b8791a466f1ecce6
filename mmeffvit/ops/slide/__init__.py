"""Slide attention (Pan et al., "Slide-Transformer", CVPR 2023).

Every query attends to the ``K = k * k`` pixels around it, after a bank of learned kernels has mixed
that window: tap ``j`` of channel ``c`` is ``sum_s W[c, j, s] x_c(p + s) + b[c, j]``, with one bank
for all heads.

- :mod:`.reference` computes the ``K`` maps by a depthwise convolution, as published;
- :mod:`.cpu` exchanges the sums, so that nothing of ``K * C * H * W`` elements exists;
- :mod:`.triton` does the same in one kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import isqrt

import torch
from torch import Tensor

from ..dispatch import Op, padded_width, width_reason
from ..numerics import accurate, without_autocast
from . import cpu, operator, reference
from .reference import PADDING_MODES, pad_map

#: Sides of the largest windows whose taps fit the registers of the Triton kernels.
TRITON_MAX_WINDOW, TRITON_MAX_WINDOW_FLOAT32 = 7, 5


def slide_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    rpb: Tensor | None = None,
    *,
    value_weight: Tensor | None = None,
    value_bias: Tensor | None = None,
    padding_mode: str = 'zeros',
    mask_borders: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Attend to the window around every pixel, through a bank of learned shifts.

    Logits, softmax and sums run in float32 (float64 for float64 inputs), also under autocast.
    Offsets and taps are row-major; without ``mask_borders`` taps outside the map take part in the
    softmax, as published.

    Args:
        q (Tensor): Scaled queries ``(B, H, W, heads, D)``.
        k (Tensor): Keys of the same shape.
        v (Tensor): Values of the same shape.
        weight (Tensor): Bank ``(D, K, K)``: channel, tap, offset in the window; the identity over
            the last two dimensions is plain local attention.
        bias (Tensor, optional): ``(D, K)``: channel, tap.
        rpb (Tensor, optional): ``(heads, K)``, added to all channels of a tap's key. The logit
            therefore gets it times the sum of the query's channels.
        value_weight (Tensor, optional): Bank of the values, if it is not that of the keys.
        value_bias (Tensor, optional): Its bias.
        padding_mode (str): What lies outside the map: ``'zeros'``, ``'reflect'``, ``'replicate'``
            or ``'circular'``, on maps of any size.
        mask_borders (bool): Give taps outside the map no weight.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B, H, W, heads, D)`` in the dtype of ``q``.

    Raises:
        ValueError: If the window is even or the shapes or ``padding_mode`` do not fit.

    Source: section 3 of the paper; borders, bias on the key and the shared bank from the authors'
    code.
    """
    kernel_size = _check_arguments(q, weight, rpb, padding_mode)
    if value_weight is None:
        value_weight, value_bias = weight, bias
    heads, D = q.shape[-2:]
    with without_autocast(q):
        key_bias = weight.new_zeros(heads, kernel_size**2, D, dtype=accurate(weight).dtype)
        value_bias_table = key_bias
        if bias is not None:
            key_bias = key_bias + accurate(bias).t()
        if rpb is not None:
            key_bias = key_bias + accurate(rpb).unsqueeze(-1)
        if value_bias is not None:
            value_bias_table = value_bias_table + accurate(value_bias).t()
        margin = kernel_size // 2
        if padding_mode != 'zeros':
            k, v = (pad_map(x, margin, padding_mode) for x in (k, v))
            margin = 0
        out = _slide(
            q,
            k,
            v,
            accurate(weight).permute(2, 1, 0).contiguous(),
            accurate(value_weight).permute(2, 1, 0).contiguous(),
            key_bias,
            value_bias_table,
            margin,
            mask_borders,
            backend=backend,
        )
    return out.to(q.dtype)


def _check_arguments(q: Tensor, weight: Tensor, rpb: Tensor | None, padding_mode: str) -> int:
    heads, D = q.shape[-2:]
    taps = weight.shape[1]
    kernel_size = isqrt(taps)
    if kernel_size**2 != taps or kernel_size % 2 == 0:
        raise ValueError(f'A bank of {taps} taps is not an odd square; use 1, 9, 25, 49, ...')
    if weight.shape != (D, taps, taps):
        raise ValueError(
            f'The bank has shape {tuple(weight.shape)}; queries of width {D} and {taps} taps need '
            f'({D}, {taps}, {taps}).'
        )
    if rpb is not None and rpb.shape != (heads, taps):
        raise ValueError(f'rpb has shape {tuple(rpb.shape)}; it must be ({heads}, {taps}).')
    if padding_mode not in PADDING_MODES:
        raise ValueError(f'padding_mode={padding_mode!r} must be one of {PADDING_MODES}.')
    return kernel_size


def _unsupported_reason(q: Tensor, k: Tensor, v: Tensor, key_bank: Tensor, *_) -> str:
    size = isqrt(len(key_bank))
    largest = TRITON_MAX_WINDOW_FLOAT32 if q.dtype == torch.float32 else TRITON_MAX_WINDOW
    if size > largest:
        return f'the window of {size}x{size} is over {largest}x{largest} for {q.dtype}'
    if max(x.shape[1] * x.stride(1) for x in (q, k, v)) >= 2**31:
        return 'a map takes more than 32-bit offsets'
    return width_reason(q.shape[-1])


def _small_problem(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    margin: int,
    mask_borders: bool,
) -> tuple[Hashable, Callable[[], tuple[tuple, dict]]]:
    D, K = q.shape[-1], len(key_bank)
    variant = padded_width(D), K, bool(margin), mask_borders

    def make() -> tuple[tuple, dict]:
        generator = torch.Generator().manual_seed(0)
        B, H, W, heads = 1, 9, 8, 2
        beyond = 0 if margin else 2 * (isqrt(K) // 2)
        queries = torch.randn(B, H, W, heads, D, generator=generator) * D**-0.5
        maps = torch.randn(2, B, H + beyond, W + beyond, heads, D, generator=generator)
        banks = torch.randn(2, K, K, D, generator=generator) / isqrt(K)
        biases = torch.randn(2, heads, K, D, generator=generator)
        args = (queries.to(q.dtype), *maps.to(q.dtype), *banks, *biases, margin, mask_borders)
        return args, {}

    return variant, make


_slide = Op(
    'slide_attention',
    reference=reference.slide_attention,
    fast=cpu.slide_attention,
    triton=f'{__name__}.triton:slide_attention',
    unsupported_reason=_unsupported_reason,
    small_problem=_small_problem,
    compiled=operator.slide_attention,
)
