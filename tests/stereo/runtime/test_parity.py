"""Whole networks give the numbers of STTR."""

from __future__ import annotations

import pytest
import torch

from helpers.goldens import require_golden
from helpers.stereo import recorded_network, recorded_pair


@pytest.mark.parametrize('name', ['128x160', '131x150_gt'])
def test_sttr(name):
    gold = require_golden(f'stereo/golden_sttr_{name}.pt')
    model = recorded_network(gold)
    count = sum(p.numel() for p in model.parameters())
    unused = 2 * model.transformer.embed_dims  # a norm of the authors' that nothing goes through
    assert count + unused == gold['num_params']
    left, right = recorded_pair(gold)
    truth = gold['ground_truth']
    occluded = None if truth is None else truth['occluded_left']
    with torch.no_grad():
        logits = model.logits(left, right)
        out = model.run(left, right, occluded)
    rows = logits[:, :: gold['logits_row_step']]
    rows = rows.masked_fill(rows.isinf(), 0)
    scale = gold['logits_rows'].abs().max()
    assert (rows - gold['logits_rows']).abs().max() / scale < 1e-4
    step = gold['step']
    for found, key in (
        (out.disparity[:, ::step, ::step], 'disp'),
        (out.raw_disparity[:, ::step, ::step], 'disp_low'),
        (out.occlusion[:, ::step, ::step], 'occ'),
    ):
        expected = gold[key]
        assert (found - expected).abs().max() / expected.abs().max() < 1e-4, key
