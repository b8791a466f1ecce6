import pytest
import torch
from torch.nn import functional as F

from mmeffvit.layers import PositionEmbedding, resize_position_embedding


def test_a_table_of_another_grid_is_resized_when_loaded():
    stored = PositionEmbedding(8, (14, 14), num_extra_tokens=1)
    wanted = PositionEmbedding(8, (20, 10), num_extra_tokens=1)
    wanted.load_state_dict(stored.state_dict())
    expected = resize_position_embedding(stored.weight, (14, 14), (20, 10), num_extra_tokens=1)
    assert torch.equal(wanted.weight, expected)
    assert stored.weight.shape[1] == 197  # the state dict was not changed


def test_a_table_of_no_square_grid_is_refused():
    with pytest.raises(RuntimeError, match='size mismatch'):
        PositionEmbedding(8, (4, 4)).load_state_dict({'weight': torch.zeros(1, 15, 8)})


def test_frames_by_mode_and_time_linearly():
    table = torch.randn(1, 2 * 4 * 4, 8)
    resized = resize_position_embedding(table, (2, 4, 4), (3, 6, 5))
    frames = table.view(2, 4, 4, 8).permute(0, 3, 1, 2)
    frames = F.interpolate(frames, size=(6, 5), mode='bicubic')
    frames = frames.permute(1, 2, 3, 0).flatten(0, 2)
    expected = F.interpolate(frames.unsqueeze(0), size=3, mode='linear')[0]
    expected = expected.view(8, 6, 5, 3).permute(3, 1, 2, 0).flatten(0, 2)
    torch.testing.assert_close(resized[0], expected)
