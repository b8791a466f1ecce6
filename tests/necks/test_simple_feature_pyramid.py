from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.necks import SimpleFeaturePyramid


@pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 1)])
def test_levels_of_a_mask_rcnn(size):
    neck = SimpleFeaturePyramid(8, 16, num_outs=5)
    maps = neck([torch.full((1, 3, 2, 2), torch.nan), torch.randn(2, 8, *size)])
    halves = [tuple(-(-side // n) for side in size) for n in (2, 4)]
    doubled = [tuple(side * n for side in size) for n in (4, 2, 1)]
    assert [tuple(m.shape) for m in maps] == [(2, 16, *side) for side in (*doubled, *halves)]
    assert torch.equal(maps[4], maps[3][..., ::2, ::2])
    sum(m.sum() for m in maps).backward()
    assert not [n for n, p in neck.named_parameters() if p.grad is None]


def test_levels_of_a_retinanet():
    neck = SimpleFeaturePyramid(8, 16, scales=(2, 1, 0.5), num_outs=5, extra_levels='conv')
    maps = neck([torch.randn(1, 8, 8, 12)])
    assert [m.shape[-1] for m in maps] == [24, 12, 6, 3, 2]
    torch.testing.assert_close(maps[3], neck.extra_convs[0](maps[2]))
    torch.testing.assert_close(maps[4], neck.extra_convs[1](F.relu(maps[3])))


def test_channels_are_normalised():
    (feature,) = SimpleFeaturePyramid(8, 16, scales=(1,))([torch.randn(1, 8, 5, 5)])
    torch.testing.assert_close(feature.mean(1), torch.zeros(1, 5, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(feature.var(1, False), torch.ones(1, 5, 5), atol=1e-3, rtol=0)


@pytest.mark.parametrize('options', [dict(scales=(3,)), dict(num_outs=2), dict(extra_levels='x')])
def test_arguments_without_meaning(options):
    with pytest.raises(ValueError):
        SimpleFeaturePyramid(8, **options)
