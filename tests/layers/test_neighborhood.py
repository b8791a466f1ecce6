"""The layer of NAT, on maps of any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit.layers import ConvDownsampler, ConvTokenizer, NeighborhoodAttention


def test_a_window_as_large_as_the_map_is_full_attention():
    torch.manual_seed(0)
    layer = NeighborhoodAttention(8, 2, kernel_size=5, rpb=False)
    x = torch.randn(2, 25, 8)
    q, k, v = layer.qkv(x).view(2, 25, 3, 2, 4).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x, (5, 5)), layer.proj(out))


@pytest.mark.parametrize(('grid', 'dilation'), [((3, 9), 1), ((9, 4), 1), ((7, 12), 2)])
def test_smaller_maps_are_padded_with_zero_tokens(grid, dilation):
    torch.manual_seed(0)
    layer = NeighborhoodAttention(8, 2, kernel_size=5, dilation=dilation)
    nn.init.normal_(layer.qkv.bias)
    x = torch.randn(1, grid[0] * grid[1], 8)
    sides = [max(side, 5 * dilation) for side in grid]
    padded = torch.zeros(1, *sides, 8)
    padded[:, : grid[0], : grid[1]] = x.view(1, *grid, 8)
    out = layer(padded.flatten(1, 2), tuple(sides)).view(1, *sides, 8)
    expected = out[:, : grid[0], : grid[1]].flatten(1, 2)
    torch.testing.assert_close(layer(x, grid), expected)


@pytest.mark.parametrize('options', [dict(kernel_size=2), dict(dilation=0)], ids=str)
def test_bad_options_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f'{name}={value}'):
        NeighborhoodAttention(8, 2, **options)


@pytest.mark.parametrize('part', [ConvTokenizer, ConvDownsampler])
def test_sides_are_rounded_up(part):
    tokens, grid = part(4, 8)(torch.rand(1, 4, 17, 30))
    steps = 4 if part is ConvTokenizer else 2
    assert grid == (-(-17 // steps), -(-30 // steps))
    assert tokens.shape == (1, grid[0] * grid[1], 8)
