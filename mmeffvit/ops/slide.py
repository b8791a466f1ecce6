"""Slide attention (Pan et al., "Slide-Transformer", CVPR 2023).

Every query attends to the ``K = k * k`` pixels around it, after a bank of learned kernels has mixed
that window: tap ``j`` of channel ``c`` is ``sum_s W[c, j, s] x_c(p + s) + b[c, j]``, with one bank
for all heads. The published form computes the ``K`` maps by a depthwise convolution; the reference
here does so too.

The fast path exchanges the sums. For each offset ``s`` it multiplies the queries with the shifted
keys and lets one small matrix product spread them over the taps; values run the same way backwards:

    logits_j = sum_s sum_c (q_c k_c(p + s)) W[c, j, s] + sum_c q_c (b[c, j] + r_j)
    out_c    = sum_s (sum_j A_j W[c, j, s]) v_c(p + s) + sum_j A_j b[c, j]

It works on tiles of image rows, with pixels last in the logits (so that products have a long side
and softmax runs over whole rows of them). Nothing of ``K * C * H * W`` elements exists: beside its
inputs and outputs it needs the padded keys and values and one tile, and for backward the attention
weights, ``K`` per query. On GPUs one kernel does the same per tile (:mod:`.triton.slide`).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dispatch import Op
from .precision import accurate, without_autocast

PADDING_MODES = ('zeros', 'reflect', 'replicate', 'circular')
#: Bytes of queries in a tile: what a core's cache holds; other devices want few, large steps.
TILE_BYTES_CPU = 1 << 20
TILE_BYTES = 64 << 20
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
            k, v = (_pad(x, margin, padding_mode) for x in (k, v))
            margin = 0
        out = _SLIDE(
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


def _pad(x: Tensor, margin: int, mode: str) -> Tensor:
    """Pad ``(B, H, W, heads, D)`` on all sides; maps smaller than the margin are no exception."""
    if mode == 'zeros':
        return F.pad(x, (0, 0, 0, 0, *[margin] * 4)).contiguous()
    for dim in (1, 2):
        side = x.shape[dim]
        index = torch.arange(-margin, side + margin, device=x.device)
        if mode == 'circular':
            index = index % side
        elif mode == 'replicate':
            index = index.clamp(0, side - 1)
        else:
            period = max(1, 2 * (side - 1))
            index = (index % period).clamp(max=side - 1) - (index % period - side + 1).clamp(min=0)
        x = x.index_select(dim, index)
    return x


def _outside(grid: tuple[int, int], kernel_size: int, device: torch.device) -> Tensor:
    """Boolean ``(K, H, W)``: where a tap lies outside the map."""
    reach = torch.arange(kernel_size, device=device) - kernel_size // 2
    rows, columns = (reach[:, None] + torch.arange(side, device=device) for side in grid)
    rows, columns = (rows < 0) | (rows >= grid[0]), (columns < 0) | (columns >= grid[1])
    return (rows[:, None, :, None] | columns[None, :, None, :]).flatten(0, 1)


def _prepare(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    margin: int,
    mask_borders: bool,
) -> tuple[Tensor | None, ...]:
    """Put ``margin`` zeros around keys and values; widen; find the borders for the torch paths."""
    outside = _outside(q.shape[1:3], isqrt(len(key_weight)), q.device) if mask_borders else None
    q = accurate(q).contiguous()
    k, v = (_pad(accurate(x), margin, 'zeros') for x in (k, v))
    return q, k, v, key_weight, value_weight, key_bias, value_bias, outside


def _reference(*arguments) -> Tensor:
    return _by_convolution(*_prepare(*arguments))


def _by_convolution(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    outside: Tensor | None,
) -> Tensor:
    """The convolution form; keys and values ``(B, H + k - 1, W + k - 1, heads, D)`` are padded."""
    B, H, W, heads, D = q.shape
    queries = q.permute(0, 3, 4, 1, 2).reshape(B * heads, D, H * W)
    keys = _tap_maps(k, key_weight, key_bias)
    logits = torch.einsum('gdp,gdkp->gkp', queries, keys)
    if outside is not None:
        logits = logits.masked_fill(outside.flatten(1), float('-inf'))
    values = _tap_maps(v, value_weight, value_bias)
    out = torch.einsum('gkp,gdkp->gdp', logits.softmax(1), values)
    return out.reshape(B, heads, D, H, W).permute(0, 3, 4, 1, 2)


def _tap_maps(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """All taps of a padded map: ``(B * heads, D, K, H * W)``."""
    offsets, taps, D = weight.shape
    kernel_size = isqrt(offsets)
    maps = x.permute(0, 3, 4, 1, 2).flatten(0, 1)
    kernels = weight.permute(2, 1, 0).reshape(D * taps, 1, kernel_size, kernel_size)
    out = F.conv2d(maps, kernels, groups=D).flatten(2).unflatten(1, (D, taps))
    return out + bias.transpose(1, 2).repeat(x.shape[0], 1, 1).unsqueeze(-1)


def _fast(*arguments) -> Tensor:
    tensors = _prepare(*arguments)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return _SlideFunction.apply(*tensors)
    return _forward(*tensors, keep=False)[0]


class _SlideFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:
        out, probability = _forward(*tensors, keep=True)
        ctx.save_for_backward(*tensors[:-1], probability)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out: Tensor):
        return *_backward(*ctx.saved_tensors, grad_out.contiguous()), None


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    outside: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Output and, tile after tile, the attention weights (of the last tile unless ``keep``)."""
    heads, D = q.shape[-2:]
    offsets, taps, _ = key_weight.shape
    key_weight, value_weight = (
        weight.unsqueeze(1).expand(-1, heads, -1, -1) for weight in (key_weight, value_weight)
    )
    out = torch.empty_like(q)
    largest = max(q[tile].numel() for tile in _tiles(q))
    probability = q.new_empty((q.numel() if keep else largest) // D * taps)
    buffer = q.new_empty(largest)
    start = 0
    for tile in _tiles(q):
        query = q[tile]
        pixels = query.numel() // (heads * D)
        product = buffer[: query.numel()].view_as(query)
        p = probability[start : start + heads * taps * pixels].view(heads, taps, pixels)
        start += p.numel() if keep else 0
        torch.bmm(key_bias, _channels_first(query), out=p)
        for s in range(offsets):
            torch.mul(query, _shifted(k, tile, s, offsets), out=product)
            p.baddbmm_(key_weight[s], _channels_first(product))
        if outside is not None:
            hidden = outside[:, None, tile[1]].expand(taps, query.shape[0], -1, -1).flatten(1)
            p.masked_fill_(hidden, float('-inf'))
        torch.softmax(p, 1, out=p)
        spread = p.transpose(1, 2)
        torch.bmm(spread, value_bias, out=_pixels_first(out[tile]))
        for s in range(offsets):
            torch.bmm(spread, value_weight[s], out=_pixels_first(product))
            out[tile].addcmul_(product, _shifted(v, tile, s, offsets))
    return out, probability


def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    probability: Tensor,
    grad_out: Tensor,
) -> tuple[Tensor, ...]:
    heads, D = q.shape[-2:]
    offsets, taps, _ = key_weight.shape
    key_weight, value_weight = (
        weight.unsqueeze(1).expand(-1, heads, -1, -1) for weight in (key_weight, value_weight)
    )
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    grad_key_weight, grad_value_weight = q.new_zeros(2, offsets, heads, taps, D)
    grad_key_bias, grad_value_bias = torch.zeros_like(key_bias), torch.zeros_like(value_bias)
    buffer = q.new_empty(max(q[tile].numel() for tile in _tiles(q)))
    start = 0
    for tile in _tiles(q):
        query, dout, dquery = q[tile], grad_out[tile], grad_q[tile]
        pixels = query.numel() // (heads * D)
        product = buffer[: query.numel()].view_as(query)
        p = probability[start : start + heads * taps * pixels].view(heads, taps, pixels)
        start += p.numel()
        spread = p.transpose(1, 2)

        dp = torch.bmm(value_bias, _channels_first(dout))
        grad_value_bias.baddbmm_(p, _pixels_first(dout))
        for s in range(offsets):
            torch.mul(dout, _shifted(v, tile, s, offsets), out=product)
            dp.baddbmm_(value_weight[s], _channels_first(product))
            grad_value_weight[s].baddbmm_(p, _pixels_first(product))
            torch.bmm(spread, value_weight[s], out=_pixels_first(product))
            _shifted(grad_v, tile, s, offsets).addcmul_(product, dout)

        dlogits = torch._softmax_backward_data(dp, p, 1, p.dtype)
        spread = dlogits.transpose(1, 2)
        grad_key_bias.baddbmm_(dlogits, _pixels_first(query))
        torch.bmm(spread, key_bias, out=_pixels_first(dquery))
        for s in range(offsets):
            key = _shifted(k, tile, s, offsets)
            torch.mul(query, key, out=product)
            grad_key_weight[s].baddbmm_(dlogits, _pixels_first(product))
            torch.bmm(spread, key_weight[s], out=_pixels_first(product))
            dquery.addcmul_(product, key)
            _shifted(grad_k, tile, s, offsets).addcmul_(product, query)
    return (
        grad_q,
        grad_k,
        grad_v,
        grad_key_weight.sum(1),
        grad_value_weight.sum(1),
        grad_key_bias,
        grad_value_bias,
    )


def _tiles(q: Tensor) -> Iterator[tuple[slice, slice]]:
    """Tiles of several whole images, or of some rows of one: slices over batch and rows."""
    B, H = q.shape[:2]
    budget = TILE_BYTES_CPU if q.device.type == 'cpu' else TILE_BYTES
    image_bytes = max(1, q[:1].numel() * q.element_size())
    images = max(1, budget // image_bytes)
    rows = H if images > 1 else min(H, max(1, budget * H // image_bytes))
    for first in range(0, B, images):
        for top in range(0, H, rows):
            yield slice(first, first + images), slice(top, min(H, top + rows))


def _shifted(padded: Tensor, tile: tuple[slice, slice], offset: int, offsets: int) -> Tensor:
    """What a tile's pixels see of a padded map at one offset of the window."""
    kernel_size = isqrt(offsets)
    down, right = divmod(offset, kernel_size)
    images, rows = tile
    width = padded.shape[2] - kernel_size + 1
    return padded[images, rows.start + down : rows.stop + down, right : right + width]


def _channels_first(x: Tensor) -> Tensor:
    """View ``(b, h, w, heads, D)`` as ``(heads, D, pixels)``."""
    return x.flatten(0, 2).permute(1, 2, 0)


def _pixels_first(x: Tensor) -> Tensor:
    """View ``(b, h, w, heads, D)`` as ``(heads, pixels, D)``."""
    return x.flatten(0, 2).transpose(0, 1)


def _triton_obstacle(q: Tensor, k: Tensor, v: Tensor, key_weight: Tensor, *_) -> str:
    size = isqrt(len(key_weight))
    largest = TRITON_MAX_WINDOW_FLOAT32 if q.dtype == torch.float32 else TRITON_MAX_WINDOW
    if size > largest:
        return f'the window of {size}x{size} is over {largest}x{largest} for {q.dtype}'
    if max(x.shape[1] * x.stride(1) for x in (q, k, v)) >= 2**31:
        return 'a map takes more than 32-bit offsets'
    return ''


_SLIDE = Op(
    'slide_attention',
    reference=_reference,
    fast=_fast,
    triton='mmeffvit.ops.triton.slide:slide_attention',
    supports=_triton_obstacle,
)
