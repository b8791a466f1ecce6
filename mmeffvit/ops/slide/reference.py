"""The convolution form of Slide attention: all taps of every key and value are computed.

Maps are ``(B, H, W, heads, D)``. Offset ``s`` of a ``k x k`` window, counted in row-major order, of
pixel ``(y, x)`` is ``(y + s // k - k // 2, x + s % k - k // 2)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics import accurate

PADDING_MODES = ('zeros', 'reflect', 'replicate', 'circular')


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
    """See :func:`mmeffvit.ops.slide.slide_attention`; the arguments are those of every backend.

    Args:
        q (Tensor): ``(B, H, W, heads, D)``.
        k (Tensor): The same, or already padded by half a window on all sides.
        v (Tensor): The same as the keys.
        key_bank (Tensor): ``(K, K, D)``: offset, tap, channel; float32 or float64.
        value_bank (Tensor): The same.
        key_bias (Tensor): ``(heads, K, D)``, the relative position bias included.
        value_bias (Tensor): The same.
        margin (int): Zeros to pad keys and values with: half a window, or 0 if they are padded.
        mask_borders (bool): Give taps outside the map no weight.

    Returns:
        Tensor: ``(B, H, W, heads, D)`` in float32 or float64.
    """
    B, H, W, heads, D = q.shape
    q = accurate(q)
    k, v = (pad_map(accurate(x), margin) for x in (k, v))
    queries = q.permute(0, 3, 4, 1, 2).reshape(B * heads, D, H * W)
    keys = _tap_maps(k, key_bank, key_bias)
    logits = torch.einsum('gdp,gdkp->gkp', queries, keys)
    if mask_borders:
        outside = outside_map((H, W), isqrt(len(key_bank)), q.device)
        logits = logits.masked_fill(outside.flatten(1), float('-inf'))
    values = _tap_maps(v, value_bank, value_bias)
    out = torch.einsum('gkp,gdkp->gdp', logits.softmax(1), values)
    return out.reshape(B, heads, D, H, W).permute(0, 3, 4, 1, 2)


def _tap_maps(x: Tensor, bank: Tensor, bias: Tensor) -> Tensor:
    """All taps of a padded map ``(B, H', W', heads, D)``: ``(B * heads, D, K, H * W)``."""
    offsets, taps, D = bank.shape
    kernel_size = isqrt(offsets)
    maps = x.permute(0, 3, 4, 1, 2).flatten(0, 1)
    kernels = bank.permute(2, 1, 0).reshape(D * taps, 1, kernel_size, kernel_size)
    out = F.conv2d(maps, kernels, groups=D).flatten(2).unflatten(1, (D, taps))
    return out + bias.transpose(1, 2).repeat(x.shape[0], 1, 1).unsqueeze(-1)


def outside_map(grid: Sequence[int], kernel_size: int, device: torch.device) -> Tensor:
    """Boolean ``(k * k, H, W)``: True where an offset of a pixel's window is outside the map."""
    reach = torch.arange(kernel_size, device=device) - kernel_size // 2
    rows, columns = (reach[:, None] + torch.arange(side, device=device) for side in grid)
    rows, columns = (rows < 0) | (rows >= grid[0]), (columns < 0) | (columns >= grid[1])
    return (rows[:, None, :, None] | columns[None, :, None, :]).flatten(0, 1)


def pad_map(x: Tensor, margin: int, mode: str = 'zeros') -> Tensor:
    """Pad a map on all four sides, also by more than its own size.

    Args:
        x (Tensor): ``(B, H, W, heads, D)``.
        margin (int): Rows and columns added to each side.
        mode (str): One of :data:`PADDING_MODES`, with the meaning that ``F.pad`` gives them.

    Returns:
        Tensor: ``(B, H + 2 * margin, W + 2 * margin, heads, D)``, contiguous.
    """
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
