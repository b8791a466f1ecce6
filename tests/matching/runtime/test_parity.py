"""Whole matchers give the numbers of the authors' code."""

from __future__ import annotations

import pytest
import torch

from helpers.goldens import relative_error, require_golden
from helpers.pairs import recorded_images, recorded_matcher
from mmeffvit.matching import PairSample

CASES = ('outdoor_128x160', 'lite_128x160_to_160x128_patched', 'lite_batch2_masked_scaled')


@pytest.fixture(scope='module', params=CASES)
def recorded(request):
    gold = require_golden(f'matching/golden_matcher_{request.param}.pt')
    model = recorded_matcher(gold)
    image0, image1, (mask0, mask1) = recorded_images(gold)
    for image, digest in zip((image0, image1), gold['input']['image_digests']):
        assert image.double().sum().item() == pytest.approx(digest['sum'], rel=1e-6)
    with torch.no_grad():
        features = model.extract(image0, image1, mask0, mask1)
    return gold, model, features, (image0, image1, mask0, mask1)


def test_parameters(recorded):
    gold, model, _, _ = recorded
    assert sum(p.numel() for p in model.parameters()) == gold['num_params']


def test_coarse_tokens(recorded):
    gold, _, features, _ = recorded
    for tokens, rows, digest in zip(features[:2], gold['coarse_rows'], gold['coarse_digest']):
        step = tokens.shape[1] // rows.shape[1]
        found = tokens[:, ::step]
        error = (found - rows).abs().amax(-1) / rows.abs().max()
        # A near tie of the tree's selection moves single rows.
        assert (error > 1e-4).float().mean() <= 0.05
        assert error.max() < 2e-3
        assert tokens.double().abs().sum().item() == pytest.approx(digest['abs_sum'], rel=1e-5)


def test_confidence(recorded):
    gold, model, features, _ = recorded
    with torch.no_grad():
        confidence = model.confidence(features)
    rows = confidence[:, :: gold['conf_row_step']]
    assert (rows - gold['conf_rows']).abs().max() < 1e-4
    assert confidence.double().sum().item() == pytest.approx(gold['conf_digest']['sum'], rel=1e-4)


def test_matches(recorded):
    gold, model, _, inputs = recorded
    with torch.no_grad():
        found = model.match(*inputs)
    expected = list(zip(gold['b_ids'].tolist(), gold['i_ids'].tolist(), gold['j_ids'].tolist()))
    cells = found.cells
    ours = list(zip(cells.pair.tolist(), cells.cell0.tolist(), cells.cell1.tolist()))
    assert len(set(ours) ^ set(expected)) <= gold['near_threshold']
    both = [(ours.index(m), expected.index(m)) for m in ours if m in expected]
    mine, theirs = (torch.tensor(index) for index in zip(*both))
    torch.testing.assert_close(cells.confidence[mine], gold['mconf'][theirs], atol=1e-4, rtol=0)
    error = (found.expectation[mine] - gold['expec_f'][theirs]).abs()
    assert error.max() < 1e-4


def test_points_in_original_pixels(recorded):
    gold, model, _, inputs = recorded
    scales = gold['scales']
    samples = []
    for index in range(gold['batch']):
        meta = (
            {}
            if scales is None
            else {f'scale{side}': tuple(scales[f'scale{side}'][index].tolist()) for side in (0, 1)}
        )
        samples.append(PairSample(metainfo=meta))
    names = ('image0', 'image1', 'mask0', 'mask1')
    out = model(dict(zip(names, inputs)), samples, mode='predict')
    for index, sample in enumerate(out):
        own = gold['m_bids'] == index
        expected = torch.cat([gold['mkpts0_f'], gold['mkpts1_f']], 1)[own]
        found = torch.cat([sample.points0, sample.points1], 1)
        distance = torch.cdist(expected, found).amin(1)
        assert (distance > 1e-3).sum() <= gold['near_threshold']
        assert relative_error(found.sum(0), expected.sum(0)) < 0.2


def test_blockwise_selection_equals_the_matrix(recorded):
    _, model, features, _ = recorded
    from mmeffvit.ops import best_of_matrix

    best = best_of_matrix(model.confidence(features))
    masks = features.mask0, features.mask1
    dense = model.coarse.select(best, features.grid0, features.grid1, *masks)
    blocks = model.select(features)
    for a, b in zip(dense[:3], blocks[:3]):
        assert torch.equal(a, b)
    torch.testing.assert_close(dense.confidence, blocks.confidence, atol=1e-5, rtol=1e-4)
