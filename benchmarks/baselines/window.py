"""Window attention as published (Swin, Uformer): plain products, a mask for every window, rebuilt.

Frozen: ratios refer to it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mmeffvit.layers import ModulatedWindowAttention, WindowAttention


def _partition(x: Tensor, size: int) -> Tensor:
    B, H, W, C = x.shape
    x = x.view(B, H // size, size, W // size, size, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size * size, C)


def _mask(H: int, W: int, size: int, shift: int, device: torch.device) -> Tensor:
    zones = torch.zeros(1, H, W, 1, device=device)
    places = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
    for i, rows in enumerate(places):
        for j, columns in enumerate(places):
            zones[:, rows, columns] = 3 * i + j
    zones = _partition(zones, size).squeeze(-1)
    difference = zones.unsqueeze(1) - zones.unsqueeze(2)
    return difference.masked_fill(difference != 0, -100.0).masked_fill(difference == 0, 0.0)


class PublishedWindowAttention(nn.Module):
    """The published forward on our layer's weights, for grids that the window divides."""

    def __init__(self, layer: WindowAttention) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        layer, (H, W) = self.layer, grid
        size, heads = layer.window_size, layer.num_heads
        shift = size // 2 if layer.shift and min(grid) > size else 0
        B, _, C = x.shape
        x = x.view(B, H, W, C)
        mask = None
        if shift:
            mask = _mask(H, W, size, shift, x.device)
            x = torch.roll(x, (-shift, -shift), (1, 2))
        windows = _partition(x, size)
        if isinstance(layer, ModulatedWindowAttention):
            windows = windows + layer.modulator
        count, N, _ = windows.shape
        qkv = layer.qkv(windows).reshape(count, N, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (C // heads) ** -0.5, qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1)
        bias = layer.relative_position_bias_table[layer.relative_position_index.view(-1)]
        scores = scores + bias.view(N, N, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            scores = scores.view(B, len(mask), heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, heads, N, N)
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(count, N, C)
        out = layer.proj(out).view(B, H // size, W // size, size, size, C)
        out = out.permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, C)
        if shift:
            out = torch.roll(out, (shift, shift), (1, 2))
        return out.view(B, H * W, C)


def as_published(model: nn.Module) -> nn.Module:
    """A copy of a model whose window attention runs as published, on the same weights."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, WindowAttention):
                setattr(parent, name, PublishedWindowAttention(child))
    return model
