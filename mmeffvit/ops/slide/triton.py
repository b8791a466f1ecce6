"""Slide attention in Triton, forward and backward.

A program owns a tile of pixels of one head. A loop over the offsets ``s`` of the window (rolled:
unrolled it spills) multiplies the queries with the keys at that offset and lets one matrix product
with the bank distribute them over the taps; logits and weights of all taps stay in registers, and a
second loop runs the same way backwards for the values. Forward reads queries, keys and values and
writes the output: as a tile holds all taps of its pixels, backward needs no log-sum-exp either.

Backward has three kernels, none with atomics, so it is deterministic:

- :func:`query_gradient_kernel`, by query tile, recomputes the weights ``A`` and writes the
  gradient of the queries, ``A`` and the gradient ``dS`` of the logits;
- :func:`key_gradient_kernel`, by tile of keys (and again of values), gathers from the queries that
  see the tile;
- :func:`bank_gradient_kernel`, by offset, head and share of the pixels, writes partial sums that
  torch adds up.

``A`` and ``dS`` are kept in memory while backward runs, and only then: ``2 K`` numbers per query.
A key is seen by ``K`` queries, so that recomputing both where they are used would cost ``K`` times
the matrix products of forward in each of the last two kernels, and the memory is less than that of
the gradients as long as ``K`` is at most the width of a head.

Products take float32 operands, rounded to TF32 for half precision: merged banks hold a one beside
small learned numbers, which bfloat16 would round away. The kernels round them to the nearest, since
matrix units cut off, and on an H200 that made gradients in float16 wrong by up to 2.9e-3. For
float32 inputs three TF32 products give float32 accuracy.
"""

# The arguments of kernels are not what their signatures say: tl.constexpr takes plain numbers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportReturnType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

from functools import partial
from math import isqrt

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Programs that share the gradient of the bank: enough for every GPU, few enough partial sums.
BANK_PROGRAMS = 1024
#: Pixels and warps of a program, by float32 and padded number of taps: what compiles for sm_80,
#: sm_90 and sm_100 without spilling registers. Nothing does for 64 taps in float32.
TILES = {
    (False, 16): (64, 8),
    (False, 32): (64, 4),
    (False, 64): (64, 8),
    (True, 16): (64, 8),
    (True, 32): (16, 4),
}


@triton.jit
def _place(pixels, heads, BM: tl.constexpr):
    """Image, head and pixels of a program's tile."""
    tiles = tl.cdiv(pixels, BM)
    head = tl.program_id(0) // tiles
    p = tl.program_id(0) % tiles * BM + tl.arange(0, BM)
    return (head // heads).to(tl.int64), head % heads, p


@triton.jit
def _load_tile(base, y, x, H, W, stride, c, BC: tl.constexpr, D: tl.constexpr):
    """Channels from ``c`` on of the pixels ``(y, x)``: ``(BM, BC)``, zero outside the map."""
    d = c + tl.arange(0, BC)
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
    pointers = base + ((y * W + x) * stride)[:, None] + d[None, :]
    return tl.load(pointers, mask=inside[:, None] & (d < D)[None, :], other=0.0).to(tl.float32)


@triton.jit
def _store_tile(base, tile, p, pixels, stride, c, BC: tl.constexpr, D: tl.constexpr):
    """Write ``(BM, BC)`` to the pixels ``p``."""
    d = c + tl.arange(0, BC)
    mask = (p < pixels)[:, None] & (d < D)[None, :]
    tl.store(base + (p * stride)[:, None] + d[None, :], tile.to(base.dtype.element_ty), mask=mask)


@triton.jit
def _load_table(
    base, row, c, BK: tl.constexpr, BC: tl.constexpr, K: tl.constexpr, D: tl.constexpr
):  # fmt: skip
    """Taps and channels ``(BK, BC)`` of one row of a table ``(rows, K, D)``, zero beyond."""
    j, d = tl.arange(0, BK), c + tl.arange(0, BC)
    pointers = base + ((row * K + j) * D)[:, None] + d[None, :]
    return tl.load(pointers, mask=(j < K)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def _to_tf32(x):
    """The nearest numbers of 11 bits; NaN stays NaN."""
    bits = (x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000
    return tl.where(x == x, bits.to(tl.float32, bitcast=True), x)


@triton.jit
def _dot(a, b, acc, DOT: tl.constexpr):
    if DOT == 'tf32':
        a = _to_tf32(a)
        b = _to_tf32(b)
    return tl.dot(a, b, acc, input_precision=DOT)


@triton.jit
def _to_taps(
    left, left_stride, right, right_stride, bank, bias, h, y, x, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """``sum_s (left * right_s) W_s + left b``: logits, or the gradient of the weights."""
    K: tl.constexpr = SIZE * SIZE
    taps = tl.zeros((BM, BK), tl.float32)
    for c in range(0, D, BC):
        tile = _load_tile(left, y, x, H, W, left_stride, c, BC, D)
        weight = tl.trans(_load_table(bias, h, c, BK, BC, K, D))
        taps = _dot(tile, weight, taps, DOT)
        for s in range(K):
            seen_y, seen_x = y + s // SIZE - margin, x + s % SIZE - margin
            seen = _load_tile(right, seen_y, seen_x, key_H, key_W, right_stride, c, BC, D)
            weight = tl.trans(_load_table(bank, s, c, BK, BC, K, D))
            taps = _dot(tile * seen, weight, taps, DOT)
    return taps


@triton.jit
def _from_taps(
    taps, right, right_stride, bank, bias, out, out_stride, h, p, y, x, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Write ``sum_s (taps W_s) * right_s + taps b``: the output, or the queries' gradient."""
    K: tl.constexpr = SIZE * SIZE
    for c in range(0, D, BC):
        result = _dot(taps, _load_table(bias, h, c, BK, BC, K, D), None, DOT)
        for s in range(K):
            seen_y, seen_x = y + s // SIZE - margin, x + s % SIZE - margin
            seen = _load_tile(right, seen_y, seen_x, key_H, key_W, right_stride, c, BC, D)
            weight = _load_table(bank, s, c, BK, BC, K, D)
            result += _dot(taps, weight, None, DOT) * seen
        _store_tile(out, result, p, H * W, out_stride, c, BC, D)


@triton.jit
def _softmax(logits, y, x, H, W, SIZE: tl.constexpr, BK: tl.constexpr, MASK: tl.constexpr):
    """Softmax over the taps; those that fill the tile up, and masked ones, get no weight."""
    j = tl.arange(0, BK)[None, :]
    hidden = j >= SIZE * SIZE
    if MASK:
        tap_y, tap_x = y[:, None] + j // SIZE - SIZE // 2, x[:, None] + j % SIZE - SIZE // 2
        outside = (tap_y < 0) | (tap_y >= H) | (tap_x < 0) | (tap_x >= W)
        hidden = hidden | (outside & (y < H)[:, None])
    logits = tl.where(hidden, float('-inf'), logits)
    weights = tl.exp(logits - tl.max(logits, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def forward_kernel(
    q, k, v, key_bank, value_bank, key_bias, value_bias, out,
    q_x, q_h, k_x, k_h, v_x, v_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    MASK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Output of a tile of ``BM`` pixels of one head."""
    b, h, p = _place(H * W, heads, BM)
    y, x = p // W, p % W
    q += b * H * W * q_x + h * q_h
    k += b * key_H * key_W * k_x + h * k_h
    v += b * key_H * key_W * v_x + h * v_h
    out += (b * H * W * heads + h) * D
    logits = _to_taps(
        q, q_x, k, k_x, key_bank, key_bias, h, y, x, H, W, key_H, key_W, margin,
        SIZE, D, BM, BK, BC, DOT,
    )  # fmt: skip
    weights = _softmax(logits, y, x, H, W, SIZE, BK, MASK)
    _from_taps(
        weights, v, v_x, value_bank, value_bias, out, heads * D, h, p, y, x, H, W, key_H, key_W,
        margin, SIZE, D, BK, BC, DOT,
    )  # fmt: skip


@triton.jit
def query_gradient_kernel(
    q, k, v, key_bank, value_bank, key_bias, value_bias, grad_out, grad_q, taps, grad_taps,
    q_x, q_h, k_x, k_h, v_x, v_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    MASK: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of queries; ``A`` and ``dS`` go to maps ``(B, heads, K, H, W)``."""
    b, h, p = _place(H * W, heads, BM)
    y, x = p // W, p % W
    q += b * H * W * q_x + h * q_h
    k += b * key_H * key_W * k_x + h * k_h
    v += b * key_H * key_W * v_x + h * v_h
    grad_out += (b * H * W * heads + h) * D
    grad_q += (b * H * W * heads + h) * D
    logits = _to_taps(
        q, q_x, k, k_x, key_bank, key_bias, h, y, x, H, W, key_H, key_W, margin,
        SIZE, D, BM, BK, BC, DOT,
    )  # fmt: skip
    weights = _softmax(logits, y, x, H, W, SIZE, BK, MASK)
    grad_weights = _to_taps(
        grad_out, heads * D, v, v_x, value_bank, value_bias, h, y, x, H, W, key_H, key_W, margin,
        SIZE, D, BM, BK, BC, DOT,
    )  # fmt: skip
    grad_logits = weights * (grad_weights - tl.sum(weights * grad_weights, 1)[:, None])

    K: tl.constexpr = SIZE * SIZE
    j = tl.arange(0, BK)
    offsets = (b * heads + h) * K * H * W + (j * H * W)[None, :] + p[:, None]
    mask = (p < H * W)[:, None] & (j < K)[None, :]
    tl.store(taps + offsets, weights, mask=mask)
    tl.store(grad_taps + offsets, grad_logits, mask=mask)
    _from_taps(
        grad_logits, k, k_x, key_bank, key_bias, grad_q, heads * D, h, p, y, x, H, W, key_H, key_W,
        margin, SIZE, D, BK, BC, DOT,
    )  # fmt: skip


@triton.jit
def key_gradient_kernel(
    taps, left, bank, out, left_x, left_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """``sum_s (taps W_s) * left`` of the pixels that see a tile of keys, or of values, at ``s``."""
    K: tl.constexpr = SIZE * SIZE
    b, h, p = _place(key_H * key_W, heads, BM)
    y, x = p // key_W + margin, p % key_W + margin
    taps += (b * heads + h) * K * H * W
    left += b * H * W * left_x + h * left_h
    out += (b * key_H * key_W * heads + h) * D
    j = tl.arange(0, BK)[None, :]
    for c in range(0, D, BC):
        result = tl.zeros((BM, BC), tl.float32)
        for s in range(K):
            from_y, from_x = y - s // SIZE, x - s % SIZE
            inside = (from_y >= 0) & (from_y < H) & (from_x >= 0) & (from_x < W)
            pointers = taps + j * H * W + (from_y * W + from_x)[:, None]
            weights = tl.load(pointers, mask=inside[:, None] & (j < K), other=0.0)
            tile = _load_tile(left, from_y, from_x, H, W, left_x, c, BC, D)
            weight = _load_table(bank, s, c, BK, BC, K, D)
            result += _dot(weights, weight, None, DOT) * tile
        _store_tile(out, result, p, key_H * key_W, heads * D, c, BC, D)


@triton.jit
def bank_gradient_kernel(
    taps, left, right, out, left_x, left_h, right_x, right_h,
    batch, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """``sum_p taps (left * right_s)`` over a share of one head's pixels, for one offset ``s``.

    ``out (shares, heads, K + 1, K, D)`` gets it for every offset and, last, for a map of ones,
    which is what the bias sees.
    """
    K: tl.constexpr = SIZE * SIZE
    chunks: tl.constexpr = (D + BC - 1) // BC
    s, h, share = tl.program_id(0), tl.program_id(1) // chunks, tl.program_id(2)
    c = tl.program_id(1) % chunks * BC
    j, d = tl.arange(0, BK)[:, None], c + tl.arange(0, BC)[None, :]
    tiles = tl.cdiv(H * W, BM)
    result = tl.zeros((BK, BC), tl.float32)
    for tile in range(share, batch * tiles, tl.num_programs(2)):
        b = (tile // tiles).to(tl.int64)
        p = tile % tiles * BM + tl.arange(0, BM)
        y, x = p // W, p % W
        seen = _load_tile(
            right + b * key_H * key_W * right_x + h * right_h,
            y + s // SIZE - margin, x + s % SIZE - margin, key_H, key_W, right_x, c, BC, D,
        )  # fmt: skip
        product = _load_tile(left + b * H * W * left_x + h * left_h, y, x, H, W, left_x, c, BC, D)
        product *= tl.where(s < K, seen, 1.0)
        pointers = taps + (b * heads + h) * K * H * W + j * H * W + p[None, :]
        weights = tl.load(pointers, mask=(j < K) & (p < H * W)[None, :], other=0.0)
        result = _dot(weights, product, result, DOT)
    row = (share * heads + h) * (K + 1) + s
    tl.store(out + (row * K + j) * D + d, result, mask=(j < K) & (d < D))


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
    """See :func:`mmeffvit.ops.slide.reference.slide_attention`.

    Args:
        q (Tensor): ``(B, H, W, heads, D)`` in float16, bfloat16 or float32.
        k (Tensor): ``(B, H', W', heads, D)``, padded unless ``margin`` is half a window.
        v (Tensor): The same as the keys.
        key_bank (Tensor): ``(K, K, D)`` in float32: offset, tap, channel.
        value_bank (Tensor): The same.
        key_bias (Tensor): ``(heads, K, D)`` in float32.
        value_bias (Tensor): The same.
        margin (int): Half a window, or 0 for padded keys and values.
        mask_borders (bool): Give taps outside the map no weight.

    Returns:
        Tensor: ``(B, H, W, heads, D)``, contiguous, in the dtype of ``q``.
    """
    tables = key_bank, value_bank, key_bias, value_bias
    return _SlideFunction.apply(q, k, v, *tables, margin, mask_borders)


def forward(
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
    """Launch the forward kernel; shapes as in :func:`slide_attention`, layouts of any kind."""
    q, k, v = (_evenly_spaced(x) for x in (q, k, v))
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    sizes = _sizes(q, k, key_bank, margin)
    forward_kernel[_grid(q, sizes)](
        q, k, v, key_bank, value_bank, key_bias, value_bias, out, *_strides(q, k, v), **sizes,
        MASK=mask_borders,
    )  # fmt: skip
    return out


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    margin: int,
    mask_borders: bool,
) -> tuple[Tensor, ...]:
    """Gradients of the first seven arguments of :func:`forward`, contiguous."""
    q, k, v, grad_out = *(_evenly_spaced(x) for x in (q, k, v)), grad_out.contiguous()
    tables = key_bank, value_bank, key_bias, value_bias
    (B, H, W, heads, _), K = q.shape, len(key_bank)
    grad_q, grad_k, grad_v = (
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)
    )
    taps, grad_taps = q.new_empty((2, B, heads, K, H, W), dtype=torch.float32).unbind()
    sizes = _sizes(q, k, key_bank, margin)
    query_gradient_kernel[_grid(q, sizes)](
        q, k, v, *tables, grad_out, grad_q, taps, grad_taps, *_strides(q, k, v), **sizes,
        MASK=mask_borders,
    )  # fmt: skip
    key_gradient_kernel[_grid(k, sizes)](grad_taps, q, key_bank, grad_k, *_strides(q), **sizes)
    key_gradient_kernel[_grid(v, sizes)](
        taps, grad_out, value_bank, grad_v, *_strides(grad_out), **sizes
    )
    grad_key_bank, grad_key_bias = _bank_gradient(grad_taps, q, k, sizes)
    grad_value_bank, grad_value_bias = _bank_gradient(taps, grad_out, v, sizes)
    return grad_q, grad_k, grad_v, grad_key_bank, grad_value_bank, grad_key_bias, grad_value_bias


class _SlideFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        *tensors, ctx.margin, ctx.mask_borders = arguments
        tensors = (*(_evenly_spaced(x) for x in tensors[:3]), *tensors[3:])
        ctx.save_for_backward(*tensors)
        return forward(*tensors, ctx.margin, ctx.mask_borders)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        return *backward(grad_out, *ctx.saved_tensors, ctx.margin, ctx.mask_borders), None, None


def _bank_gradient(taps: Tensor, left: Tensor, right: Tensor, sizes: dict) -> tuple[Tensor, Tensor]:
    """Gradients of a bank ``(K, K, D)`` and of its biases ``(heads, K, D)``."""
    (B, heads, K, H, W), D = taps.shape, left.shape[-1]
    heads_and_chunks = heads * triton.cdiv(D, sizes['BC'])
    tiles = B * triton.cdiv(H * W, sizes['BM'])
    shares = max(1, min(tiles, BANK_PROGRAMS // ((K + 1) * heads_and_chunks)))
    out = taps.new_empty(shares, heads, K + 1, K, D)
    bank_gradient_kernel[K + 1, heads_and_chunks, shares](
        taps, left, right, out, *_strides(left, right), B, **sizes
    )
    sums = out.sum(0)
    return sums[:, :K].sum(0), sums[:, K].contiguous()


def _evenly_spaced(x: Tensor) -> Tensor:
    """The map itself if one stride leads from pixel to pixel, as in a view of qkv; else a copy."""
    _, H, W, _, _ = x.shape
    pixel, head = x.stride()[2:4]
    return x if x.stride() == (H * W * pixel, W * pixel, pixel, head, 1) else x.contiguous()


def _strides(*maps: Tensor) -> list[int]:
    return [stride for x in maps for stride in x.stride()[2:4]]


def _sizes(q: Tensor, k: Tensor, bank: Tensor, margin: int) -> dict:
    """What all kernels are told, and how they are launched."""
    (H, W, heads, D), K = q.shape[1:], len(bank)
    taps = max(16, triton.next_power_of_2(K))
    pixels, warps = TILES[q.dtype == torch.float32, taps]
    return {
        'heads': heads,
        'H': H,
        'W': W,
        'key_H': k.shape[1],
        'key_W': k.shape[2],
        'margin': margin,
        'SIZE': isqrt(K),
        'D': D,
        'BM': pixels,
        'BK': taps,
        'BC': 16,
        'DOT': 'tf32x3' if q.dtype == torch.float32 else 'tf32',
        'num_warps': warps,
        'num_stages': 1,
        'maxnreg': 128,
    }


def _grid(x: Tensor, sizes: dict) -> tuple[int]:
    B, H, W, heads, _ = x.shape
    return (B * heads * triton.cdiv(H * W, sizes['BM']),)


def _case(dtype: torch.dtype, D: int, kernel_size: int, mask_borders: bool) -> None:
    """Run forward and backward once, for :data:`COMPILE_CASES`."""
    K, grid, heads = kernel_size**2, 16, 2
    qkv = torch.zeros(1, grid, grid, heads, 3, D, dtype=dtype).requires_grad_()
    bank, bias = torch.zeros(K, K, D), torch.zeros(heads, K, D)
    margin = kernel_size // 2
    out = slide_attention(*qkv.unbind(-2), bank, bank, bias, bias, margin, mask_borders)
    out.backward(torch.zeros_like(out))


#: Calls whose kernels ``benchmarks/compile_kernels.py`` compiles.
COMPILE_CASES = {
    f'{str(dtype)[6:]} D={D} k={size} mask_borders={mask_borders}': partial(
        _case, dtype, D, size, mask_borders
    )
    for dtype, D, size, mask_borders in (
        (torch.bfloat16, 32, 3, False),
        (torch.bfloat16, 64, 3, True),
        (torch.bfloat16, 64, 5, True),
        (torch.bfloat16, 128, 7, True),
        (torch.float16, 40, 7, False),
        (torch.float32, 64, 3, True),
        (torch.float32, 128, 5, True),
    )
}
