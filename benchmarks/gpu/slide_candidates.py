"""Candidate kernels of Slide attention: half-precision products, banks prepared outside.

They differ from :mod:`mmeffvit.ops.slide.triton` in this:

- ``PARTS = 2``: operands in bfloat16, the bank as the sum of two of them (what the first one rounds
  off is in the second), so that a one beside small learned numbers keeps 16 bits; TF32 takes the
  same time of the matrix units and twice the bytes. ``PARTS = 1``: one product in float16, which
  has the 11 bits of TF32; its range suffices for products of queries and keys and for weights,
  not for gradients, so it is a candidate of forward only;
- banks are padded to ``BK`` taps and stored once as the left-to-taps table ``(offset, part, tap,
  channel)`` and once as the taps-to-channels table, both as matrix units read them;
- ``ORDER``: channels (the contracted ones, and the columns of the second product) are renamed
  such that the 16 bytes that a thread loads are what it gives to the matrix unit. With one warp
  per program no number then passes through shared memory, and no barrier waits.
- weights and their gradients are kept in half precision with the taps of a pixel side by side.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmeffvit.ops.slide.triton import _place, _softmax


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
def _dot(a, b, acc, WIDEN: tl.constexpr):
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc)


@triton.jit
def _tile(base, offsets, inside, c, BC: tl.constexpr, D: tl.constexpr):
    """Channels from ``c`` of the pixels at ``offsets``: ``(BM, BC)``, zero where not inside."""
    d = c + tl.arange(0, BC)
    mask = inside[:, None]
    if D % BC:
        mask = mask & (d < D)[None, :]
    return tl.load(base + offsets[:, None] + d[None, :], mask=mask, other=0.0)


@triton.jit
def _store(base, offsets, inside, x, c, BC: tl.constexpr, D: tl.constexpr):
    d = c + tl.arange(0, BC)
    mask = inside[:, None]
    if D % BC:
        mask = mask & (d < D)[None, :]
    tl.store(base + offsets[:, None] + d[None, :], x.to(base.dtype.element_ty), mask=mask)


@triton.jit
def _inside(y, x, H, W):
    return (y >= 0) & (y < H) & (x >= 0) & (x < W)


@triton.jit
def _times_bank(
    x, acc, table, row, c, PARTS: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    j, d = tl.arange(0, BK), c + tl.arange(0, BC)
    for part in tl.static_range(PARTS):
        w = tl.load(table + (row * PARTS + part) * BK * DP + j[:, None] * DP + d[None, :])
        acc = _dot(x, tl.trans(_contracted(w, ORDER)), acc, WIDEN)
    return acc


@triton.jit
def _to_taps(
    left, left_at, right, right_x, table, h, y, x, real, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    K: tl.constexpr = SIZE * SIZE
    taps = tl.zeros((BM, BK), tl.float32)
    for c in range(0, D, BC):
        tile = _contracted(_tile(left, left_at, real, c, BC, D), ORDER)
        taps = _times_bank(
            tile.to(table.dtype.element_ty), taps, table, K + h, c, PARTS, BK, BC, DP, ORDER, WIDEN
        )
        for s in range(K):
            seen_y, seen_x = y + s // SIZE - margin, x + s % SIZE - margin
            inside = _inside(seen_y, seen_x, key_H, key_W)
            seen = _tile(right, (seen_y * key_W + seen_x) * right_x, inside, c, BC, D)
            both = tile.to(tl.float32) * _contracted(seen, ORDER).to(tl.float32)
            both = both.to(table.dtype.element_ty)
            if PARTS == 1:  # float16 has no room for large products
                both = tl.minimum(tl.maximum(both, -65504.0), 65504.0)
            taps = _times_bank(both, taps, table, s, c, PARTS, BK, BC, DP, ORDER, WIDEN)
    return taps


@triton.jit
def _from_bank(
    taps, table, row, c, PARTS: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """``taps (BM, BK)`` times channels from ``c`` of the bank; columns renamed."""
    j, d = tl.arange(0, BK), c + tl.arange(0, BC)
    acc = tl.zeros((taps.shape[0], BC), tl.float32)
    if ORDER and BK == 16 and PARTS == 2:  # rows of channels: both parts of 16 taps, 64 bytes
        both = tl.load(table + row * DP * 32 + d[:, None] * 32 + tl.arange(0, 32)[None, :])
        both = tl.permute(tl.reshape(both, (BC, 4, 2, 2, 2)), (0, 3, 1, 4, 2))
        high, low = tl.split(both)
        acc = _dot(taps, tl.trans(tl.reshape(high, (BC, 16))), acc, WIDEN)
        acc = _dot(taps, tl.trans(tl.reshape(low, (BC, 16))), acc, WIDEN)
    else:
        for part in tl.static_range(PARTS):
            w = tl.load(table + (row * PARTS + part) * BK * DP + j[:, None] * DP + d[None, :])
            acc = _dot(taps, w, acc, WIDEN)
    return acc


@triton.jit
def _from_taps(
    taps, right, right_x, table, out, out_at, h, y, x, real, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    K: tl.constexpr = SIZE * SIZE
    for c in range(0, D, BC):
        result = _from_bank(taps, table, K + h, c, PARTS, BK, BC, DP, ORDER, WIDEN)
        for s in range(K):
            seen_y, seen_x = y + s // SIZE - margin, x + s % SIZE - margin
            inside = _inside(seen_y, seen_x, key_H, key_W)
            seen = _tile(right, (seen_y * key_W + seen_x) * right_x, inside, c, BC, D)
            part = _from_bank(taps, table, s, c, PARTS, BK, BC, DP, ORDER, WIDEN)
            result += part * _columns(seen, ORDER).to(tl.float32)
        _store(out, out_at, real, _columns(result, ORDER), c, BC, D)


@triton.jit
def forward_kernel(
    q, k, v, to_keys, from_values, out,
    q_x, q_h, k_x, k_h, v_x, v_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
    MASK: tl.constexpr,
):  # fmt: skip
    b, h, p = _place(H * W, heads, BM)
    y, x, real = p // W, p % W, p < H * W
    k += b * key_H * key_W * k_x + h * k_h
    v += b * key_H * key_W * v_x + h * v_h
    logits = _to_taps(
        q + b * H * W * q_x + h * q_h, p * q_x, k, k_x, to_keys, h, y, x, real,
        key_H, key_W, margin, SIZE, D, BM, BK, BC, DP, PARTS, ORDER, WIDEN,
    )  # fmt: skip
    weights = _softmax(logits, y, x, H, W, SIZE, BK, MASK).to(from_values.dtype.element_ty)
    _from_taps(
        weights, v, v_x, from_values, out + (b * H * W * heads + h) * D, p * (heads * D),
        h, y, x, real, key_H, key_W, margin, SIZE, D, BK, BC, DP, PARTS, ORDER, WIDEN,
    )  # fmt: skip


@triton.jit
def query_gradient_kernel(
    q, k, v, to_keys, to_values, from_keys, grad_out, grad_q, taps, grad_taps,
    q_x, q_h, k_x, k_h, v_x, v_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
    MASK: tl.constexpr,
):  # fmt: skip
    b, h, p = _place(H * W, heads, BM)
    y, x, real = p // W, p % W, p < H * W
    k += b * key_H * key_W * k_x + h * k_h
    v += b * key_H * key_W * v_x + h * v_h
    own = (b * H * W * heads + h) * D
    logits = _to_taps(
        q + b * H * W * q_x + h * q_h, p * q_x, k, k_x, to_keys, h, y, x, real,
        key_H, key_W, margin, SIZE, D, BM, BK, BC, DP, PARTS, ORDER, WIDEN,
    )  # fmt: skip
    weights = _softmax(logits, y, x, H, W, SIZE, BK, MASK)
    grad = _to_taps(
        grad_out + own, p * (heads * D), v, v_x, to_values, h, y, x, real,
        key_H, key_W, margin, SIZE, D, BM, BK, BC, DP, PARTS, ORDER, WIDEN,
    )  # fmt: skip
    grad = weights * (grad - tl.sum(weights * grad, 1)[:, None])
    offsets = ((b * heads + h) * H * W + p)[:, None] * BK + tl.arange(0, BK)[None, :]
    tl.store(taps + offsets, weights.to(taps.dtype.element_ty), mask=real[:, None])
    tl.store(grad_taps + offsets, grad.to(taps.dtype.element_ty), mask=real[:, None])
    _from_taps(
        grad.to(from_keys.dtype.element_ty), k, k_x, from_keys, grad_q + own, p * (heads * D),
        h, y, x, real, key_H, key_W, margin, SIZE, D, BK, BC, DP, PARTS, ORDER, WIDEN,
    )  # fmt: skip


@triton.jit
def key_gradient_kernel(
    taps, left, table, out, left_x, left_h, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
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
            part = _from_bank(weights, table, s, c, PARTS, BK, BC, DP, ORDER, WIDEN)
            result += part * tile.to(tl.float32)
        _store(out, p * (heads * D), p < key_H * key_W, _columns(result, ORDER), c, BC, D)


@triton.jit(do_not_specialize=['batch'])
def bank_gradient_kernel(
    taps, left, right, out, left_x, left_h, right_x, right_h,
    batch, heads, H, W, key_H, key_W, margin,
    SIZE: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr,
    DP: tl.constexpr, PARTS: tl.constexpr, ORDER: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """As in the package, products in half precision; ``DP``, ``PARTS``, ``ORDER`` unused."""
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
        result = _dot(tl.trans(weights), both.to(weights.dtype), result, WIDEN)
    j, d = tl.arange(0, BK)[:, None], c + tl.arange(0, BC)[None, :]
    row = (share * heads + h) * (K + 1) + s
    tl.store(out + (row * K + j) * D + d, result, mask=(j < K) & (d < D))


def tables(
    bank: Tensor, bias: Tensor, dtype: torch.dtype, BC: int, parts: int, order: bool
) -> tuple[Tensor, Tensor]:
    """The left-to-taps and the taps-to-channels table of a bank ``(K, K, D)`` and its biases."""
    K, D = len(bank), bank.shape[-1]
    BK, DP = max(16, triton.next_power_of_2(K)), triton.cdiv(D, BC) * BC
    rows = bank.new_zeros(K + len(bias), BK, DP)
    rows[:, :K, :D] = torch.cat([bank, bias])
    halves = [rows.to(dtype)]
    if parts == 2:
        halves.append((rows - halves[0].float()).to(dtype))
    to_taps = torch.stack(halves, 1)
    from_taps = to_taps
    if order:  # columns renamed: place (u, t, l) holds channel (t, u, l)
        chunks = from_taps.unflatten(-1, (-1, 4, 4, 2))
        from_taps = chunks.transpose(-2, -3).flatten(-4)
        if BK == 16 and parts == 2:  # (row, channel, t, part, h, l)
            split = from_taps.unflatten(2, (2, 4, 2))  # row, part, h, t, l, channel
            from_taps = split.permute(0, 5, 3, 1, 2, 4).flatten(2)
    return to_taps.contiguous(), from_taps.contiguous()
