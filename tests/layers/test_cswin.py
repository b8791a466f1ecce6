"""Cross-shaped window attention against attention stripe by stripe."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import CrossShapedWindowAttention


def test_stripes_are_independent_attentions():
    torch.manual_seed(0)
    layer = CrossShapedWindowAttention(8, 4, stripe_width=2)
    H, W = 5, 3  # one padded row and one padded column
    x = torch.randn(2, H * W, 8)
    qkv = layer.qkv(x).view(2, H, W, 3, 8)
    halves = []
    for channels, conv, vertical in ((slice(4), layer.lepe[0], 1), (slice(4, 8), layer.lepe[1], 0)):
        half = qkv[..., channels].transpose(1, 2) if vertical else qkv[..., channels]
        half = F.pad(half, (0, 0, 0, 0, 0, 0, 0, half.shape[1] % 2))
        out = torch.zeros(half[..., 0, :].shape)
        for start in range(0, half.shape[1], 2):
            stripe = half[:, start : start + 2]
            image = stripe[..., 2, :].permute(0, 3, 1, 2)
            kernel = conv.weight.transpose(2, 3) if vertical else conv.weight
            lepe = F.conv2d(image, kernel, conv.bias, padding=1, groups=4).permute(0, 2, 3, 1)
            for head in (slice(2), slice(2, 4)):
                q, k, v = stripe[..., head].flatten(1, 2).unbind(2)
                weights = (q @ k.transpose(1, 2) * 2**-0.5).softmax(-1)
                attended = (weights @ v).view(stripe[..., 0, head].shape)
                out[:, start : start + 2, :, head] = attended + lepe[..., head]
        halves.append(out.transpose(1, 2)[:, :H, :W] if vertical else out[:, :H, :W])
    expected = layer.proj(torch.cat(halves, -1).flatten(1, 2))
    torch.testing.assert_close(layer(x, (H, W)), expected)


def test_without_stripes_the_map_is_one_window():
    layer = CrossShapedWindowAttention(8, 1)
    x = torch.randn(1, 12, 8)
    q, k, v = layer.qkv(x).chunk(3, -1)
    lepe = layer.lepe[0](v.transpose(1, 2).unflatten(2, (3, 4))).flatten(2).transpose(1, 2)
    expected = layer.proj((q @ k.transpose(1, 2) * 8**-0.5).softmax(-1) @ v + lepe)
    torch.testing.assert_close(layer(x, (3, 4)), expected)


def test_an_odd_number_of_heads_is_refused():
    with pytest.raises(ValueError, match='even'):
        CrossShapedWindowAttention(9, 3, stripe_width=2)
