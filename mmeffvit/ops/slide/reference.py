"""The convolution form of Slide attention: all taps of every key and value are computed."""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from ..neighbourhood import outside_map, pad_map
from ..numerics import accurate


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
