from __future__ import annotations

import pytest
import torch

from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.necks import TransposedFPN


def test_parity_with_lightvit():
    case = load_golden('dualtoken/golden_blocks.pt')['cases']['lightvit_fpn']
    neck = TransposedFPN(case['in_channels'], case['out_channels'], case['num_outs'])
    neck.load_state_dict(recipe().fill_state(case['state']))
    inputs = [
        recipe().make_input((1, channels, *size), seed, case['input_block'])
        for channels, size, seed in zip(case['in_channels'], case['sizes'], case['input_seeds'])
    ]
    with torch.no_grad():
        outs = neck(inputs)
    assert [tuple(out.shape[2:]) for out in outs] == [tuple(size) for size in case['out_sizes']]
    for out, expected in zip(outs, case['outs']):
        assert relative_error(out[:, :: case['out_channel_step']], expected) < 1e-5


@pytest.mark.parametrize('num_outs', [3, 5])
def test_without_extra_levels_it_is_mmdets_fpn(num_outs):
    fpn = pytest.importorskip('mmdet.models.necks').FPN([8, 16, 24], 16, num_outs=num_outs)
    neck = TransposedFPN([8, 16, 24], 16, num_outs=num_outs, num_extra_levels=0)
    neck.load_state_dict(fpn.state_dict())
    inputs = [torch.randn(1, c, h, w) for c, h, w in ((8, 19, 27), (16, 10, 14), (24, 5, 7))]
    for ours, theirs in zip(neck(inputs), fpn(inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_two_extra_levels_double_twice():
    neck = TransposedFPN([8, 16], 16, num_outs=4, num_extra_levels=2)
    outs = neck([torch.randn(1, 8, 6, 9), torch.randn(1, 16, 3, 5)])
    assert [tuple(out.shape[2:]) for out in outs] == [(24, 36), (12, 18), (6, 9), (3, 5)]


def test_initialisation():
    neck = TransposedFPN([8, 16, 24], 16)
    neck.init_weights()
    # Xavier uniform is bounded by sqrt(6 / (fan_in + fan_out)).
    weight = neck.lateral_convs[0].conv.weight
    assert weight.abs().max() <= (6 / (8 + 16)) ** 0.5
    assert not neck.extra_trans_convs[0].conv.bias.any()


def test_too_few_outputs():
    with pytest.raises(ValueError, match='num_outs=3 must be at least 4'):
        TransposedFPN([8, 16, 24], 16, num_outs=3)
