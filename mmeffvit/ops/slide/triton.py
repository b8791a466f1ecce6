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

``A`` and ``dS`` are kept in memory while backward runs, and only then, with the taps of a pixel
side by side and filled up to 16, 32 or 64. A key is seen by ``K`` queries, so that recomputing both
where they are used would cost ``K`` times the matrix products of forward in each of the last two
kernels, and the memory is about that of the gradients as long as ``K`` is at most the width of a
head.

Merged banks hold a one beside small learned numbers, which one bfloat16 would round away:

- for bfloat16 inputs a bank is the sum of two bfloat16 numbers (``PARTS = 2``), what the first one
  rounds off being in the second. That takes half of TF32's bytes;
- for float16 inputs products take float32 operands, which the kernels round to the nearest TF32
  numbers. Matrix units cut off, and on an H200 that made gradients wrong by up to 2.9e-3;
- for float32 inputs three TF32 products give float32 accuracy.

With ``ORDER`` channels (the contracted ones, and the columns of the second product) are renamed
such that the 16 bytes that a thread loads are what it gives to the matrix unit. With one warp per
program no number then passes through shared memory, and no barrier waits.

Tiles, warps and stages for bfloat16 and for windows of 3 and 7 are the fastest of a sweep on an
H200 (``benchmarks/gpu/tune.py``) among those that compile for sm_80, sm_90 and sm_100 without
spilling registers.
"""

# Triton compiles the kernels from this source; their types are not those of Python.
# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

from functools import partial
from math import isqrt

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dispatch import triton_interpreted

#: Programs that share the gradient of the bank: enough for every GPU, few enough partial sums.
BANK_PROGRAMS = 4096
#: A bank as :func:`tables` gives it.
Tables = tuple[Tensor, Tensor]
KERNELS = ('forward', 'query gradient', 'key gradient', 'bank gradient')


def launch(kernel: str, K: int, D: int, dtype: torch.dtype) -> dict:
    """Tile, warps and stages of a kernel.

    Args:
        kernel (str): Of :data:`KERNELS`.
        K (int): Taps.
        D (int): Width of a head.
        dtype (torch.dtype): Of the inputs.
    """
    small, narrow = K <= 16, D <= 16
    options = dict(BC=16 if narrow else 32, ORDER=False, num_stages=1, maxnreg=None)
    if dtype == torch.float32:
        # Three products take three times the registers: nothing compiles for 64 taps.
        BM, warps = (64, 8) if small else (16, 4)
        return dict(options, BC=16, BM=BM, num_warps=warps, maxnreg=128)
    if kernel == 'bank gradient':
        return dict(options, BM=64, num_warps=4)
    if small and not narrow and dtype == torch.bfloat16:
        registers = 168 if kernel == 'query gradient' or D % 32 else 128
        return dict(options, BM=32, ORDER=True, num_warps=1, maxnreg=registers)
    options |= dict(BM=64, num_warps=4, maxnreg=128 if K <= 32 else 168)
    if K > 32 and (dtype == torch.float16 or D > 64):
        options['BM'] = 32
    return dict(options, num_stages=3 if dtype == torch.bfloat16 else 1)


@triton.jit
def _place(pixels, heads, BM: tl.constexpr):
    """Image, head and pixels of a program's tile."""
    tiles = tl.cdiv(pixels, BM)
    head = tl.program_id(0) // tiles
    p = tl.program_id(0) % tiles * BM + tl.arange(0, BM)
    return (head // heads).to(tl.int64), head % heads, p


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
def _contracted(x, ORDER: tl.constexpr):
    """Rename channels ``(.., 4, 2, 2, 2)`` so that four threads hold eight neighbours each."""
    if ORDER:
        R: tl.constexpr = x.shape[0]
        C: tl.constexpr = x.shape[1]
        x = tl.reshape(x, (R, 4, 2, 2, 2))
        x = tl.reshape(tl.permute(x, (0, 2, 3, 1, 4)), (R, C))
    return x


@triton.jit
def _columns(x, ORDER: tl.constexpr):
    """The same for columns of a result; its own inverse."""
    if ORDER:
        R: tl.constexpr = x.shape[0]
        C: tl.constexpr = x.shape[1]
        x = tl.reshape(x, (R, 4, 4, 2))
        x = tl.reshape(tl.permute(x, (0, 2, 1, 3)), (R, C))
    return x


@triton.jit
def _to_tf32(x):
    """The nearest numbers of 11 bits; NaN stays NaN."""
    bits = (x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000
    return tl.where(x == x, bits.to(tl.float32, bitcast=True), x)


@triton.jit
def _dot(a, b, acc, DOT: tl.constexpr):
    """Product of half-precision operands, of ones rounded to TF32, or as Triton calls it."""
    if DOT == 'half':
        result = tl.dot(a, b, acc)
    elif DOT == 'widened':  # the interpreter multiplies no bfloat16
        result = tl.dot(a.to(tl.float32), b.to(tl.float32), acc)
    elif DOT == 'tf32':
        result = tl.dot(_to_tf32(a), _to_tf32(b), acc, input_precision='tf32')
    else:
        result = tl.dot(a, b, acc, input_precision=DOT)
    return result


@triton.jit
def _as(x, dtype: tl.constexpr, DOT: tl.constexpr):
    """Convert to the dtype; what the interpreter cuts off is rounded before."""
    if DOT == 'widened':
        bits = x.to(tl.float32).to(tl.int32, bitcast=True) + 0x8000
        x = bits.to(tl.float32, bitcast=True)
    return x.to(dtype)


@triton.jit
def _tile(base, offsets, inside, c, BC: tl.constexpr, D: tl.constexpr):
    """Channels from ``c`` of the pixels at ``offsets``: ``(BM, BC)``, zero where not inside."""
    d = c + tl.arange(0, BC)
    mask = inside[:, None]
    if D % BC:
        mask = mask & (d < D)[None, :]
    return tl.load(base + offsets[:, None] + d[None, :], mask=mask, other=0.0)


@triton.jit
def _store(
    base, offsets, inside, x, c, BC: tl.constexpr, D: tl.constexpr, DOT: tl.constexpr
):  # fmt: skip
    d = c + tl.arange(0, BC)
    mask = inside[:, None]
    if D % BC:
        mask = mask & (d < D)[None, :]
    tl.store(base + offsets[:, None] + d[None, :], _as(x, base.dtype.element_ty, DOT), mask=mask)


@triton.jit
def _inside(y, x, H, W):
    """Write ``(BM, BC)`` to the pixels at ``offsets``."""
    return (y >= 0) & (y < H) & (x >= 0) & (x < W)


@triton.jit
def _times_bank(
    x, acc, table, row, c, PARTS: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, ORDER: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Add products of ``x (BM, BC)`` with a row of a table, ``(BM, BK)``."""
    j, d = tl.arange(0, BK), c + tl.arange(0, BC)
    for part in tl.static_range(PARTS):
        w = tl.load(table + (row * PARTS + part) * BK * DP + j[:, None] * DP + d[None, :])
        acc = _dot(x, tl.trans(_contracted(w, ORDER)), acc, DOT)
    return acc


@triton.jit
def _to_taps(
    left, left_at, right, right_x, table, h, y, x, real, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """``sum_s (left * right_s) W_s + left b``: logits, or the gradient of the weights."""
    K: tl.constexpr = SIZE * SIZE
    taps = tl.zeros((BM, BK), tl.float32)
    for c in range(0, D, BC):
        tile = _contracted(_tile(left, left_at, real, c, BC, D), ORDER)
        taps = _times_bank(
            _as(tile, table.dtype.element_ty, DOT),
            taps,
            table,
            K + h,
            c,
            PARTS,
            BK,
            BC,
            DP,
            ORDER,
            DOT,
        )
        for s in range(K):
            seen_y, seen_x = y + s // SIZE - margin, x + s % SIZE - margin
            inside = _inside(seen_y, seen_x, key_H, key_W)
            seen = _tile(right, (seen_y * key_W + seen_x) * right_x, inside, c, BC, D)
            both = tile.to(tl.float32) * _contracted(seen, ORDER).to(tl.float32)
            both = _as(both, table.dtype.element_ty, DOT)
            taps = _times_bank(both, taps, table, s, c, PARTS, BK, BC, DP, ORDER, DOT)
    return taps


@triton.jit
def _from_bank(
    taps, table, row, c, PARTS: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, ORDER: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """``taps (BM, BK)`` times channels from ``c`` of the bank; columns renamed."""
    j, d = tl.arange(0, BK), c + tl.arange(0, BC)
    acc = tl.zeros((taps.shape[0], BC), tl.float32)
    if ORDER and BK == 16 and PARTS == 2:  # rows of channels: both parts of 16 taps, 64 bytes
        both = tl.load(table + row * DP * 32 + d[:, None] * 32 + tl.arange(0, 32)[None, :])
        both = tl.permute(tl.reshape(both, (BC, 4, 2, 2, 2)), (0, 3, 1, 4, 2))
        high, low = tl.split(both)
        acc = _dot(taps, tl.trans(tl.reshape(high, (BC, 16))), acc, DOT)
        acc = _dot(taps, tl.trans(tl.reshape(low, (BC, 16))), acc, DOT)
    else:
        for part in tl.static_range(PARTS):
            w = tl.load(table + (row * PARTS + part) * BK * DP + j[:, None] * DP + d[None, :])
            acc = _dot(taps, w, acc, DOT)
    return acc


@triton.jit
def _from_taps(
    taps, right, right_x, table, out, out_at, h, y, x, real, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Write ``sum_s (taps W_s) * right_s + taps b``: the output, or the queries' gradient."""
    K: tl.constexpr = SIZE * SIZE
    for c in range(0, D, BC):
        result = _from_bank(taps, table, K + h, c, PARTS, BK, BC, DP, ORDER, DOT)
        for s in range(K):
            seen_y, seen_x = y + s // SIZE - margin, x + s % SIZE - margin
            inside = _inside(seen_y, seen_x, key_H, key_W)
            seen = _tile(right, (seen_y * key_W + seen_x) * right_x, inside, c, BC, D)
            part = _from_bank(taps, table, s, c, PARTS, BK, BC, DP, ORDER, DOT)
            result += part * _columns(seen, ORDER).to(tl.float32)
        _store(out, out_at, real, _columns(result, ORDER), c, BC, D, DOT)


@triton.jit
def forward_kernel(
    q, k, v, to_keys, from_values, out,
    q_x, q_h, k_x, k_h, v_x, v_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, DOT: tl.constexpr,
    MASK: tl.constexpr,
):  # fmt: skip
    """Output of a tile of ``BM`` pixels of one head."""
    b, h, p = _place(H * W, heads, BM)
    y, x, real = p // W, p % W, p < H * W
    k += b * key_H * key_W * k_x + h * k_h
    v += b * key_H * key_W * v_x + h * v_h
    logits = _to_taps(
        q + b * H * W * q_x + h * q_h, p * q_x, k, k_x, to_keys, h, y, x, real,
        key_H, key_W, margin, SIZE, D, BM, BK, BC, DP, PARTS, ORDER, DOT,
    )  # fmt: skip
    weights = _softmax(logits, y, x, H, W, SIZE, BK, MASK)
    weights = _as(weights, from_values.dtype.element_ty, DOT)
    _from_taps(
        weights, v, v_x, from_values, out + (b * H * W * heads + h) * D, p * (heads * D),
        h, y, x, real, key_H, key_W, margin, SIZE, D, BK, BC, DP, PARTS, ORDER, DOT,
    )  # fmt: skip


@triton.jit
def query_gradient_kernel(
    q, k, v, to_keys, to_values, from_keys, grad_out, grad_q, taps, grad_taps,
    q_x, q_h, k_x, k_h, v_x, v_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, DOT: tl.constexpr,
    MASK: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of queries; ``A`` and ``dS`` go to maps ``(B, heads, H, W, BK)``."""
    b, h, p = _place(H * W, heads, BM)
    y, x, real = p // W, p % W, p < H * W
    k += b * key_H * key_W * k_x + h * k_h
    v += b * key_H * key_W * v_x + h * v_h
    own = (b * H * W * heads + h) * D
    logits = _to_taps(
        q + b * H * W * q_x + h * q_h, p * q_x, k, k_x, to_keys, h, y, x, real,
        key_H, key_W, margin, SIZE, D, BM, BK, BC, DP, PARTS, ORDER, DOT,
    )  # fmt: skip
    weights = _softmax(logits, y, x, H, W, SIZE, BK, MASK)
    grad = _to_taps(
        grad_out + own, p * (heads * D), v, v_x, to_values, h, y, x, real,
        key_H, key_W, margin, SIZE, D, BM, BK, BC, DP, PARTS, ORDER, DOT,
    )  # fmt: skip
    grad = weights * (grad - tl.sum(weights * grad, 1)[:, None])
    grad = _as(grad, grad_taps.dtype.element_ty, DOT)
    offsets = ((b * heads + h) * H * W + p)[:, None] * BK + tl.arange(0, BK)[None, :]
    tl.store(taps + offsets, _as(weights, taps.dtype.element_ty, DOT), mask=real[:, None])
    tl.store(grad_taps + offsets, grad, mask=real[:, None])
    _from_taps(
        grad, k, k_x, from_keys, grad_q + own, p * (heads * D),
        h, y, x, real, key_H, key_W, margin, SIZE, D, BK, BC, DP, PARTS, ORDER, DOT,
    )  # fmt: skip


@triton.jit
def key_gradient_kernel(
    taps, left, table, out, left_x, left_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """``sum_s (taps W_s) * left`` of the pixels that see a tile of keys, or of values, at ``s``."""
    K: tl.constexpr = SIZE * SIZE
    b, h, p = _place(key_H * key_W, heads, BM)
    y, x = p // key_W + margin, p % key_W + margin
    taps += (b * heads + h) * H * W * BK
    left += b * H * W * left_x + h * left_h
    out += (b * key_H * key_W * heads + h) * D
    for c in range(0, D, BC):
        result = tl.zeros((BM, BC), tl.float32)
        for s in range(K):
            from_y, from_x = y - s // SIZE, x - s % SIZE
            inside = _inside(from_y, from_x, H, W)
            at = from_y * W + from_x
            weights = _tile(taps, at * BK, inside, 0, BK, BK)
            tile = _columns(_tile(left, at * left_x, inside, c, BC, D), ORDER)
            part = _from_bank(weights, table, s, c, PARTS, BK, BC, DP, ORDER, DOT)
            result += part * tile.to(tl.float32)
        _store(out, p * (heads * D), p < key_H * key_W, _columns(result, ORDER), c, BC, D, DOT)


@triton.jit(do_not_specialize=['batch'])
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
    tiles = tl.cdiv(H * W, BM)
    result = tl.zeros((BK, BC), tl.float32)
    for tile in range(share, batch * tiles, tl.num_programs(2)):
        b = (tile // tiles).to(tl.int64)
        p = tile % tiles * BM + tl.arange(0, BM)
        real = p < H * W
        seen_y, seen_x = p // W + s // SIZE - margin, p % W + s % SIZE - margin
        inside = _inside(seen_y, seen_x, key_H, key_W) & real
        at = (seen_y * key_W + seen_x) * right_x
        seen = _tile(right + b * key_H * key_W * right_x + h * right_h, at, inside, c, BC, D)
        own = _tile(left + b * H * W * left_x + h * left_h, p * left_x, real, c, BC, D)
        both = own.to(tl.float32) * tl.where(s < K, seen.to(tl.float32), 1.0)
        weights = _tile(taps + (b * heads + h) * H * W * BK, p * BK, real, 0, BK, BK)
        result = _dot(tl.trans(weights), _as(both, weights.dtype, DOT), result, DOT)
    j, d = tl.arange(0, BK)[:, None], c + tl.arange(0, BC)[None, :]
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
    chosen = options('forward', q, k, len(key_bank), margin)
    keys, values = tables(key_bank, value_bank, key_bias, value_bias, q.dtype, chosen)
    launch_forward(q, k, v, keys, values, out, mask_borders, chosen)
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
    K = len(key_bank)
    grad_q, grad_k, grad_v = (
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)
    )
    chosen = options('query gradient', q, k, K, margin)
    keys, values = tables(key_bank, value_bank, key_bias, value_bias, q.dtype, chosen)
    taps, grad_taps = keys[0].new_empty(2, *taps_shape(q, chosen)).unbind()
    launch_query_gradient(
        grad_out, q, k, v, keys, values, grad_q, taps, grad_taps, mask_borders, chosen
    )
    chosen = options('key gradient', q, k, K, margin)
    launch_key_gradient(grad_taps, q, keys[1], grad_k, chosen)
    launch_key_gradient(taps, grad_out, values[1], grad_v, chosen)
    chosen = options('bank gradient', q, k, K, margin)
    grad_key_bank, grad_key_bias = bank_gradient(grad_taps, q, k, K, chosen, BANK_PROGRAMS)
    grad_value_bank, grad_value_bias = bank_gradient(taps, grad_out, v, K, chosen, BANK_PROGRAMS)
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


def launch_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tables,
    values: Tables,
    out: Tensor,
    mask_borders: bool,
    chosen: dict,
) -> None:
    """Write the output; ``chosen`` is of :func:`options`, the tables are of :func:`tables`."""
    forward_kernel[_grid(q, chosen)](
        q, k, v, keys[0], values[1], out, *_strides(q, k, v), **chosen, MASK=mask_borders
    )


def launch_query_gradient(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tables,
    values: Tables,
    grad_q: Tensor,
    taps: Tensor,
    grad_taps: Tensor,
    mask_borders: bool,
    chosen: dict,
) -> None:
    """Write the gradient of the queries, the weights and the gradient of the logits."""
    query_gradient_kernel[_grid(q, chosen)](
        q, k, v, keys[0], values[0], keys[1], grad_out, grad_q, taps, grad_taps,
        *_strides(q, k, v), **chosen, MASK=mask_borders,
    )  # fmt: skip


def launch_key_gradient(
    taps: Tensor, left: Tensor, table: Tensor, grad: Tensor, chosen: dict
) -> None:
    """Write the gradient of keys, or of values."""
    key_gradient_kernel[_grid(grad, chosen)](taps, left, table, grad, *_strides(left), **chosen)


def bank_gradient(
    taps: Tensor, left: Tensor, right: Tensor, K: int, chosen: dict, programs: int
) -> tuple[Tensor, Tensor]:
    """Gradients of a bank ``(K, K, D)`` and of its biases ``(heads, K, D)``."""
    B, H, W, heads, D = left.shape
    chosen = {key: x for key, x in chosen.items() if key not in ('DP', 'PARTS', 'ORDER')}
    heads_and_chunks = heads * triton.cdiv(D, chosen['BC'])
    tiles = B * triton.cdiv(H * W, chosen['BM'])
    shares = max(1, min(tiles, programs // ((K + 1) * heads_and_chunks)))
    out = taps.new_empty(shares, heads, K + 1, K, D, dtype=torch.float32)
    bank_gradient_kernel[K + 1, heads_and_chunks, shares](
        taps, left, right, out, *_strides(left, right), B, **chosen
    )
    sums = out.sum(0)
    return sums[:, :K].sum(0), sums[:, K].contiguous()


def taps_shape(q: Tensor, chosen: dict) -> tuple[int, ...]:
    """Shape of a map of weights: ``(B, heads, H, W, BK)``."""
    B, H, W, heads, _ = q.shape
    return B, heads, H, W, chosen['BK']


def tables(
    key_bank: Tensor,
    value_bank: Tensor,
    key_bias: Tensor,
    value_bias: Tensor,
    dtype: torch.dtype,
    chosen: dict,
) -> tuple[Tables, Tables]:
    """Banks ``(K, K, D)`` and their biases as the kernels read them.

    Returns:
        tuple: For keys and for values two tables ``(rows, parts, taps, channels)``, in whose rows
        the bank comes before the biases: for products over channels, and for products over taps.
    """
    K, D, count = len(key_bank), key_bank.shape[-1], len(key_bank) + len(key_bias)
    BK, parts = chosen['BK'], chosen['PARTS']
    rows = torch.cat([key_bank, key_bias, value_bank, value_bias])
    rows = F.pad(rows, (0, chosen['DP'] - D, 0, BK - K))
    if parts == 1:
        to_taps = rows.unsqueeze(1)
    else:
        high = rows.to(dtype)
        to_taps = torch.stack([high, (rows - high).to(dtype)], 1)
    from_taps = to_taps
    if chosen['ORDER']:  # place (u, t, l) holds channel (t, u, l)
        from_taps = from_taps.unflatten(-1, (-1, 4, 4, 2)).transpose(-2, -3).flatten(-4)
        if BK == 16 and parts == 2:  # (row, channel, t, part, h, l)
            split = from_taps.unflatten(2, (2, 4, 2))  # row, part, h, t, l, channel
            from_taps = split.permute(0, 5, 3, 1, 2, 4).flatten(2).contiguous()
    return (to_taps[:count], from_taps[:count]), (to_taps[count:], from_taps[count:])


def _evenly_spaced(x: Tensor) -> Tensor:
    """The map itself if one stride leads from pixel to pixel, as in a view of qkv; else a copy."""
    _, H, W, _, _ = x.shape
    pixel, head = x.stride()[2:4]
    return x if x.stride() == (H * W * pixel, W * pixel, pixel, head, 1) else x.contiguous()


def _strides(*maps: Tensor) -> list[int]:
    return [stride for x in maps for stride in x.stride()[2:4]]


def options(kernel: str, q: Tensor, k: Tensor, K: int, margin: int) -> dict:
    """What a kernel is told, and how it is launched."""
    H, W, heads, D = q.shape[1:]
    chosen = launch(kernel, K, D, q.dtype)
    products = {torch.float32: 'tf32x3', torch.float16: 'tf32', torch.bfloat16: 'half'}[q.dtype]
    if products == 'half' and triton_interpreted():
        products = 'widened'
    return {
        'heads': heads,
        'H': H,
        'W': W,
        'key_H': k.shape[1],
        'key_W': k.shape[2],
        'margin': margin,
        'SIZE': isqrt(K),
        'D': D,
        'BK': max(16, triton.next_power_of_2(K)),
        'DP': triton.cdiv(D, chosen['BC']) * chosen['BC'],
        'PARTS': 2 if q.dtype == torch.bfloat16 else 1,
        'DOT': products,
        **chosen,
    }


def _grid(x: Tensor, chosen: dict) -> tuple[int]:
    B, H, W, heads, _ = x.shape
    return (B * heads * triton.cdiv(H * W, chosen['BM']),)


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
        (torch.bfloat16, 40, 3, True),
        (torch.bfloat16, 16, 3, False),
        (torch.bfloat16, 32, 7, False),
        (torch.bfloat16, 64, 5, True),
        (torch.bfloat16, 128, 7, True),
        (torch.float16, 40, 7, False),
        (torch.float16, 64, 3, True),
        (torch.float32, 64, 3, True),
        (torch.float32, 128, 5, True),
    )
}
