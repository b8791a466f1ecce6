"""Windows of a grid: order, masks and position index, each against a loop."""

from __future__ import annotations

import pytest
import torch

from mmeffvit.ops import (
    merge_windows,
    partition_windows,
    relative_position_index,
    roll_tokens,
    shifted_window_mask,
)


def test_windows_and_back():
    tokens = torch.arange(2 * 4 * 6 * 3).view(2, 24, 3)
    windows = partition_windows(tokens, (4, 6), 2)
    assert windows.shape == (2, 6, 4, 3)
    grid = tokens.view(2, 4, 6, 3)
    assert torch.equal(windows[1, 4], grid[1, 2:4, 2:4].reshape(4, 3))
    assert torch.equal(merge_windows(windows, (4, 6), 2), tokens)


@pytest.mark.parametrize('shifts', [(1, 1), (1, 0), (0, 1)])
def test_mask_separates_what_the_roll_brought_together(shifts):
    grid, size = (4, 6), 2
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing='ij')
    places = torch.stack([rows, columns], -1).view(1, 24, 2)
    windows = partition_windows(roll_tokens(places, grid, shifts), grid, size)[0]
    reach = (windows[:, :, None] - windows[:, None]).abs().amax(-1)
    assert torch.equal(shifted_window_mask(grid, size, shifts), reach < size)


def test_relative_position_index_counts_offsets():
    index = relative_position_index(3)
    places = [(y, x) for y in range(3) for x in range(3)]
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            assert index[i, j] == (y - v + 2) * 5 + (x - u + 2)
