from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import crop_tokens, from_quad, map_to_tokens, pad_tokens, to_quad, tokens_to_map

FOUR_BY_FOUR = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


@pytest.mark.parametrize('halvings', [1, 2])
def test_quad_order_of_four_by_four(halvings):
    raster = torch.arange(16).view(1, 16, 1)
    assert to_quad(raster, (4, 4), halvings).flatten().tolist() == FOUR_BY_FOUR


@pytest.mark.parametrize('num_heads', [1, 2])
def test_four_neighbours_are_a_cell_at_every_level(num_heads):
    grid, halvings = (24, 40), 3
    tokens = torch.randn(2, 24 * 40, 8, dtype=torch.float64)
    quad, feature_map = to_quad(tokens, grid, halvings, num_heads), tokens_to_map(tokens, grid)
    for level in range(1, halvings + 1):
        quad = quad.unflatten(2, (-1, 4)).mean(3)
        feature_map = F.avg_pool2d(feature_map, 2)
        coarse = (24 >> level, 40 >> level)
        expected = to_quad(map_to_tokens(feature_map), coarse, halvings - level, num_heads)
        torch.testing.assert_close(quad, expected)


@pytest.mark.parametrize('halvings', [0, 1, 3])
def test_from_quad_inverts(halvings):
    tokens = torch.randn(2, 16 * 8, 6)
    assert torch.equal(from_quad(to_quad(tokens, (16, 8), halvings, 3), (16, 8), halvings), tokens)


def test_padding_and_back():
    tokens = torch.randn(2, 15, 4)
    padded, grid = pad_tokens(tokens, (3, 5), 4)
    assert grid == (4, 8)
    assert padded.count_nonzero() == tokens.count_nonzero()
    assert torch.equal(crop_tokens(padded, grid, (3, 5)), tokens)


def test_map_of_a_single_image_is_channels_last():
    feature_map = tokens_to_map(torch.randn(1, 12, 8), (3, 4))
    assert feature_map.is_contiguous(memory_format=torch.channels_last)
    assert map_to_tokens(feature_map).is_contiguous()
