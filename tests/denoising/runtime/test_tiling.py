from __future__ import annotations

import pytest
import torch
from torch import nn

from mmeffvit.denoising import run_clip, run_tiled
from mmeffvit.denoising.padding import reflect_pad


class Recorder:
    """A network that remembers the largest area it was given."""

    def __init__(self, network):
        self.network = network
        self.shapes = []

    def __call__(self, x):
        self.shapes.append(tuple(x.shape))
        return self.network(x)


@pytest.fixture(scope='module')
def local_network():
    """Sees 4 pixels far."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2), nn.GELU(), nn.Conv2d(4, 3, 5, padding=2)
    ).requires_grad_(False)


@pytest.mark.parametrize('size', [(64, 64), (70, 45), (33, 131), (16, 90)])
def test_tiles_equal_the_whole_for_a_local_network(local_network, size):
    image = torch.rand(2, 3, *size)
    network = Recorder(local_network)
    out = run_tiled(network, image, tile=32, overlap=16)
    torch.testing.assert_close(out, local_network(image))
    assert max(h * w for _, _, h, w in network.shapes) <= 32 * 32
    assert len(network.shapes) > 1


def test_tiles_begin_at_multiples_of_the_divisor():
    """A network that acts on blocks of 8 gives the same in tiles, whatever the image size."""

    def blockwise(x):
        return nn.functional.interpolate(nn.functional.avg_pool2d(x, 8), scale_factor=8)

    image = torch.rand(1, 3, 83, 59)
    whole = blockwise(reflect_pad(image, 5, 5))[..., :83, :59]
    torch.testing.assert_close(run_tiled(blockwise, image, 32, 16, divisor=8), whole)


def test_blending_weights_sum_to_one():
    for overlap in (0, 1, 2, 3, 7, 20):
        image = torch.rand(1, 1, 61, 97)
        torch.testing.assert_close(run_tiled(lambda x: x, image, 21, overlap), image)


def test_small_images_go_whole():
    network = Recorder(lambda x: x)
    run_tiled(network, torch.rand(1, 3, 20, 32), 32, 8)
    assert network.shapes == [(1, 3, 20, 32)]


@pytest.mark.parametrize(('tile', 'overlap', 'divisor'), [(32, 32, 1), (32, -1, 1), (30, 8, 8)])
def test_sizes_that_do_not_fit_are_named(tile, overlap, divisor):
    with pytest.raises(ValueError, match='overlap='):
        run_tiled(lambda x: x, torch.rand(1, 3, 64, 64), tile, overlap, divisor)


def test_reflection_goes_on_for_ever():
    row = torch.tensor([[0.0, 1, 2]])
    assert reflect_pad(row, 0, 6).tolist() == [[0, 1, 2, 1, 0, 1, 2, 1, 0]]
    assert reflect_pad(row[:, :1], 2, 2).tolist() == [[0, 0, 0]] * 3
    image = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(
        reflect_pad(image, 4, 5), nn.functional.pad(image, (0, 5, 0, 4), mode='reflect')
    )


def _frames(count: int) -> list[torch.Tensor]:
    return [torch.full((1, 3, 2, 2), float(i)) for i in range(count)]


@pytest.mark.parametrize('count', [1, 2, 4, 7, 8, 13, 14, 20])
def test_clip_windows_give_every_frame_once_in_order(count):
    out = list(run_clip(lambda clip: clip + 0.5, _frames(count), 7))
    assert [frame[0, 0, 0, 0].item() for frame in out] == [i + 0.5 for i in range(count)]


def test_last_window_ends_on_the_last_frame_and_is_averaged():
    starts = []

    def network(clip):
        starts.append([int(i) for i in clip[0, 0, :, 0, 0]])
        return torch.full_like(clip, len(starts))

    out = [frame[0, 0, 0, 0].item() for frame in run_clip(network, _frames(6), 4)]
    assert starts == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert out == [1, 1, 1.5, 1.5, 2, 2]


def test_short_clips_are_mirrored():
    seen = []
    list(run_clip(lambda clip: seen.append(clip) or clip, _frames(3), 7))
    assert seen[0][0, 0, :, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2]


def test_long_clips_are_read_as_they_are_needed():
    read = []

    def frames():
        for i, frame in enumerate(_frames(30)):
            read.append(i)
            yield frame

    out = run_clip(lambda clip: clip, frames(), 3)
    next(out)
    assert len(read) <= 6
