"""Slide attention without the maps of the taps, for any device.

The sums are exchanged. For each offset ``s`` of the window the queries are multiplied with the
shifted keys, and one small matrix product distributes them over the taps; values run the same way
backwards:

    logits_j = sum_s sum_c (q_c k_c(p + s)) W[c, j, s] + sum_c q_c (b[c, j] + r_j)
    out_c    = sum_s (sum_j A_j W[c, j, s]) v_c(p + s) + sum_j A_j b[c, j]

It works on tiles of image rows, with pixels last in the logits (so that products have a long side
and softmax runs over whole rows of them). Beside inputs and outputs it needs the padded keys and
values and one tile, and for backward the attention weights, ``K`` per query.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..numerics import accurate
from .reference import outside_map, pad_map

_softmax_backward = torch._softmax_backward_data  # pyright: ignore[reportPrivateImportUsage]

#: Bytes of queries in a tile: a core's cache on CPUs; other devices prefer few, large steps.
TILE_BYTES_CPU = 1 << 20
TILE_BYTES = 64 << 20

#: Slices over the images of a batch and over the rows of an image.
Tile = tuple[slice, slice]


def slide_attention(
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
    """See :func:`mmeffvit.ops.slide.reference.slide_attention` for the arguments."""
    outside = outside_map(q.shape[1:3], isqrt(len(key_bank)), q.device) if mask_borders else None
    k, v = (pad_map(accurate(x), margin) for x in (k, v))
    tensors = (accurate(q).contiguous(), k, v, key_bank, value_bank, key_bias, value_bias, outside)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return _SlideFunction.apply(*tensors)
    return forward(*tensors, keep=False)[0]


class _SlideFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:
        out, probability = forward(*tensors, keep=True)
        ctx.save_for_backward(*tensors[:-1], probability)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out: Tensor):
        *tensors, probability = ctx.saved_tensors
        return *backward(*tensors, probability=probability, grad_out=grad_out.contiguous()), None


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    outside: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Attend tile after tile.

    Args:
        q (Tensor): ``(B, H, W, heads, D)``, contiguous; everything is float32 or float64.
        k (Tensor): Padded, ``(B, H + k - 1, W + k - 1, heads, D)``.
        v (Tensor): The same.
        key_bank (Tensor): ``(K, K, D)``: offset, tap, channel.
        value_bank (Tensor): The same.
        key_bias (Tensor): ``(heads, K, D)``.
        value_bias (Tensor): The same.
        outside (Tensor, optional): Boolean ``(K, H, W)``, True where a tap gets no weight.
        keep (bool): Return the attention weights of all tiles.

    Returns:
        tuple: ``(B, H, W, heads, D)``, and the weights of each tile ``(heads, K, pixels)``, one
        after the other in one dimension (without ``keep``, those of the last tile).
    """
    heads, D = q.shape[-2:]
    offsets, taps, _ = key_bank.shape
    kernel_size = isqrt(offsets)
    key_bank, value_bank = (
        bank.unsqueeze(1).expand(-1, heads, -1, -1) for bank in (key_bank, value_bank)
    )
    out = torch.empty_like(q)
    largest = max((q[tile].numel() for tile in tiles(q)), default=0)
    probability = q.new_empty((q.numel() if keep else largest) // D * taps)
    buffer = q.new_empty(largest)
    start = 0
    for tile in tiles(q):
        query = q[tile]
        pixels = query.numel() // (heads * D)
        product = buffer[: query.numel()].view_as(query)
        p = probability[start : start + heads * taps * pixels].view(heads, taps, pixels)
        start += p.numel() if keep else 0
        torch.bmm(key_bias, channels_first(query), out=p)
        for s in range(offsets):
            torch.mul(query, shifted(k, tile, s, kernel_size), out=product)
            p.baddbmm_(key_bank[s], channels_first(product))
        if outside is not None:
            hidden = outside[:, None, tile[1]].expand(taps, query.shape[0], -1, -1).flatten(1)
            p.masked_fill_(hidden, float('-inf'))
        torch.softmax(p, 1, out=p)
        transposed = p.transpose(1, 2)
        torch.bmm(transposed, value_bias, out=pixels_first(out[tile]))
        for s in range(offsets):
            torch.bmm(transposed, value_bank[s], out=pixels_first(product))
            out[tile].addcmul_(product, shifted(v, tile, s, kernel_size))
    return out, probability


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    probability: Tensor,
    grad_out: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of the first seven arguments of :func:`forward`.

    Args:
        q (Tensor): As there, as are the next six.
        k (Tensor): Padded keys.
        v (Tensor): Padded values.
        key_bank (Tensor): Bank of the keys.
        value_bank (Tensor): Bank of the values.
        key_bias (Tensor): Bias of the keys.
        value_bias (Tensor): Bias of the values.
        probability (Tensor): The weights that :func:`forward` kept.
        grad_out (Tensor): ``(B, H, W, heads, D)``, contiguous.
    """
    heads, D = q.shape[-2:]
    offsets, taps, _ = key_bank.shape
    kernel_size = isqrt(offsets)
    key_bank, value_bank = (
        bank.unsqueeze(1).expand(-1, heads, -1, -1) for bank in (key_bank, value_bank)
    )
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    grad_key_bank, grad_value_bank = q.new_zeros(2, offsets, heads, taps, D)
    grad_key_bias, grad_value_bias = torch.zeros_like(key_bias), torch.zeros_like(value_bias)
    buffer = q.new_empty(max((q[tile].numel() for tile in tiles(q)), default=0))
    start = 0
    for tile in tiles(q):
        query, dout, dquery = q[tile], grad_out[tile], grad_q[tile]
        pixels = query.numel() // (heads * D)
        product = buffer[: query.numel()].view_as(query)
        p = probability[start : start + heads * taps * pixels].view(heads, taps, pixels)
        start += p.numel()
        transposed = p.transpose(1, 2)

        dp = torch.bmm(value_bias, channels_first(dout))
        grad_value_bias.baddbmm_(p, pixels_first(dout))
        for s in range(offsets):
            torch.mul(dout, shifted(v, tile, s, kernel_size), out=product)
            dp.baddbmm_(value_bank[s], channels_first(product))
            grad_value_bank[s].baddbmm_(p, pixels_first(product))
            torch.bmm(transposed, value_bank[s], out=pixels_first(product))
            shifted(grad_v, tile, s, kernel_size).addcmul_(product, dout)

        dlogits = _softmax_backward(dp, p, 1, p.dtype)
        transposed = dlogits.transpose(1, 2)
        grad_key_bias.baddbmm_(dlogits, pixels_first(query))
        torch.bmm(transposed, key_bias, out=pixels_first(dquery))
        for s in range(offsets):
            key = shifted(k, tile, s, kernel_size)
            torch.mul(query, key, out=product)
            grad_key_bank[s].baddbmm_(dlogits, pixels_first(product))
            torch.bmm(transposed, key_bank[s], out=pixels_first(product))
            dquery.addcmul_(product, key)
            shifted(grad_k, tile, s, kernel_size).addcmul_(product, query)
    return (
        grad_q,
        grad_k,
        grad_v,
        grad_key_bank.sum(1),
        grad_value_bank.sum(1),
        grad_key_bias,
        grad_value_bias,
    )


def tiles(q: Tensor) -> Iterator[Tile]:
    """Cut ``(B, H, W, heads, D)`` into tiles of several whole images or of some rows of one."""
    B, H = q.shape[:2]
    budget = TILE_BYTES_CPU if q.device.type == 'cpu' else TILE_BYTES
    image_bytes = max(1, q[:1].numel() * q.element_size())
    images = max(1, budget // image_bytes)
    rows = H if images > 1 else min(H, max(1, budget * H // image_bytes))
    for first in range(0, B, images):
        for top in range(0, H, rows):
            yield slice(first, first + images), slice(top, min(H, top + rows))


def shifted(padded: Tensor, tile: Tile, offset: int, kernel_size: int) -> Tensor:
    """View what the pixels of a tile find at one offset of their window.

    Args:
        padded (Tensor): ``(B, H + k - 1, W + k - 1, heads, D)``.
        tile (Tile): A tile of the map without padding, ``h`` rows of ``b`` images.
        offset (int): Row-major position in the window.
        kernel_size (int): Side ``k`` of the window.

    Returns:
        Tensor: ``(b, h, W, heads, D)``.
    """
    down, right = divmod(offset, kernel_size)
    images, rows = tile
    width = padded.shape[2] - kernel_size + 1
    return padded[images, rows.start + down : rows.stop + down, right : right + width]


def channels_first(x: Tensor) -> Tensor:
    """View a tile ``(b, h, w, heads, D)`` as ``(heads, D, pixels)``."""
    return x.flatten(0, 2).permute(1, 2, 0)


def pixels_first(x: Tensor) -> Tensor:
    """View a tile ``(b, h, w, heads, D)`` as ``(heads, pixels, D)``."""
    return x.flatten(0, 2).transpose(0, 1)
