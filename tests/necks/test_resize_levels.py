from __future__ import annotations

import torch
import torch.nn.functional as F

from mmeffvit.necks import ResizeLevels

INPUTS = tuple(torch.randn(2, c, h, w) for c, h, w in ((4, 9, 13), (6, 5, 7), (8, 3, 4)))


def test_last_level_at_a_finer_resolution():
    outs = ResizeLevels()(INPUTS)
    assert all(out is x for out, x in zip(outs, INPUTS))
    expected = F.interpolate(INPUTS[2], size=(12, 16), mode='bilinear', align_corners=False)
    torch.testing.assert_close(outs[3], expected, rtol=0, atol=0)


def test_last_level_as_it_is():
    assert ResizeLevels(scale_factor=1)(INPUTS)[3] is INPUTS[2]


def test_all_levels_side_by_side():
    out = ResizeLevels(levels=(0, 1, 2), scale_factor=1)(INPUTS)[3]
    assert out.shape == (2, 18, 9, 13)
    torch.testing.assert_close(out[:, :4], INPUTS[0], rtol=0, atol=0)
