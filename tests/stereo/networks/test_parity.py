"""The parts of STTR give the numbers of the authors' code."""

from __future__ import annotations

import pytest
import torch

from helpers.goldens import recipe, relative_error, require_golden
from helpers.stereo import fill_part
from mmeffvit.stereo import (
    DisparityRegression,
    EpipolarAttention,
    StereoLoss,
    StereoTransformer,
    STTRFeatures,
)
from mmeffvit.stereo.networks.attention import relative_positions
from mmeffvit.stereo.networks.regression import sampled, true_response

POSITIONS = require_golden('stereo/golden_position.pt')['cases']
ATTENTIONS = require_golden('stereo/golden_attention.pt')['cases']
TRANSFORMERS = require_golden('stereo/golden_transformer.pt')['cases']
FEATURES = require_golden('stereo/golden_features.pt')
REGRESSIONS = require_golden('stereo/golden_regression.pt')['cases']
LOSSES = require_golden('stereo/golden_losses.pt')


@pytest.mark.parametrize('name', POSITIONS)
def test_relative_positions(name):
    case = POSITIONS[name]
    width, stride = case['image_width'], max(1, case['downsample'])
    columns = len(range(width)[sampled(width, stride)])
    table = relative_positions(columns, case['channels'], width / columns, torch.empty(0))
    assert (table - case['table']).abs().max() < 1e-5


@pytest.mark.parametrize('name', ATTENTIONS)
def test_attention(name):
    case, make = ATTENTIONS[name], recipe().make_input
    W, lines, C = case['width'], case['lines'], case['dim']
    layer = EpipolarAttention(C, case['heads'])
    start = 'transformer.self_attn_layers.0.self_attn.'
    fill_part(layer, case['state'], start, 'transformer.self_layers.0.attn.')
    seeds = case['input']
    query = make((W, lines, C), seeds['query_seed'], block=0).requires_grad_()
    key = make((W, lines, C), seeds['key_seed'], block=0).requires_grad_()
    key = query if case['kind'] == 'self' else key
    tables = None
    if case['relative_position']:
        tables = [make((2 * W - 1, C), seeds['position_seed'], block=0)]
    x, context = query.transpose(0, 1), key.transpose(0, 1)

    logits = layer.logits(x, context, tables)
    if case['causal_mask']:
        logits = logits.masked_fill(torch.ones(W, W, dtype=torch.bool).triu(1), -torch.inf)
    raw = logits.sum(1)
    assert relative_error(raw.masked_fill(raw.isinf(), 0), case['raw_sum']) < 1e-5
    weights = logits.softmax(-1)
    assert relative_error(weights.mean(1), case['mean_attention']) < 1e-5
    if case['causal_mask']:
        return
    out = layer(x, context, tables).transpose(0, 1)
    assert relative_error(out, case['out']) < 1e-5
    (out * make(out.shape, 7, block=0)).sum().add(0.01 * raw.sum()).backward()
    assert relative_error(query.grad, case['grad']['query']) < 1e-5


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_transformer(name):
    case, make = TRANSFORMERS[name], recipe().make_input
    C, (h, w) = case['dim'], case['map']
    model = StereoTransformer(C, case['heads'], case['layers'])
    fill_part(model, case['state'], 'transformer.', 'transformer.')
    left, right = (make((1, C, h, w), seed, block=2) for seed in case['input']['seeds'])
    with torch.no_grad():
        logits = model(left, right)
    visible = logits.isfinite()
    assert visible.float().mean().item() == pytest.approx(case['finite_share'])
    assert relative_error(logits.masked_fill(~visible, 0), case['logits']) < 1e-5


@pytest.mark.parametrize('name', FEATURES['cases'])
def test_features(name):
    case = FEATURES['cases'][name]
    model = fill_part(STTRFeatures(), case['state'], '', 'features.')
    images = recipe().make_input((2, 3, *case['image']), case['input']['seed'])
    with torch.no_grad():
        maps = model.extractor(images)
        tokens = model.tokenizer(maps)
    assert [tuple(m.shape) for m in maps] == case['sizes']
    assert relative_error(maps[3], case['spp']) < 1e-4
    channels, rows, columns = case['token_steps']
    assert relative_error(tokens[:, ::channels, ::rows, ::columns], case['tokens']) < 1e-4


@pytest.mark.parametrize('size', [*FEATURES['limits'], '33x17'])
def test_features_take_any_size(size):
    H, W = map(int, size.split('x'))
    with torch.no_grad():
        assert STTRFeatures(16)(torch.rand(2, 3, H, W)).shape == (2, 16, H, W)


def regression_inputs(case: dict) -> tuple[torch.Tensor, torch.Tensor]:
    make, seed, (h, w) = recipe().make_input, case['input']['seed'], case['image']
    stride = max(1, case['downsample'])
    rows, columns = (len(range(size)[sampled(size, stride)]) for size in (h, w))
    logits = 4 * make((case['batch'], rows, columns, columns), seed, block=0)
    beyond = torch.ones(columns, columns, dtype=torch.bool).triu(1)
    left = make((case['batch'], 3, h, w), seed + 1)
    return logits.masked_fill(beyond, -torch.inf).requires_grad_(), left


def regression_of(case: dict, **options) -> DisparityRegression:
    context = dict(type='ContextAdjustment') if len(case['state']) > 1 else None
    head = DisparityRegression(context=context, **options)
    return fill_part(head, case['state'], 'regression_head.', 'regression.')


@pytest.mark.parametrize('name', REGRESSIONS)
def test_regression(name):
    case = REGRESSIONS[name]
    matching = 'transport' if case['head'] == 'ot' else 'softmax'
    head = regression_of(case, matching=matching, compatible=True)
    logits, left = regression_inputs(case)
    stride = max(1, case['downsample'])
    truth = case['ground_truth']
    at_tokens = tuple(sampled(size, stride) for size in case['image'])
    occluded = truth['occluded_left'][(..., *at_tokens)]
    with torch.no_grad():
        out = head(logits, left, stride, occluded if case['with_ground_truth'] else None)
    assert relative_error(out.assignment, case['assignment']) < 1e-5
    assert relative_error(out.disparity, case['out_disp_pred']) < 1e-5
    assert relative_error(out.occlusion, case['out_occ_pred']) < 1e-5
    if 'out_disp_pred_low_res' in case:
        assert relative_error(out.raw_disparity, case['out_disp_pred_low_res']) < 1e-5
    if case['with_ground_truth']:
        response = true_response(out.assignment, truth['disparity'], stride)
        assert relative_error(response, case['out_gt_response']) < 1e-5
        bins = out.assignment[..., :-1, -1][occluded]
        assert relative_error(bins, case['out_gt_response_occ_left']) < 1e-5


def test_losses():
    case = LOSSES['cases']['loss_a']
    head = regression_of(case, compatible=True)
    logits, left = regression_inputs(case)
    truth, stride = case['ground_truth'], case['downsample']
    at_tokens = tuple(sampled(size, stride) for size in case['image'])
    out = head(logits, left, stride, truth['occluded_left'][(..., *at_tokens)])
    masks = truth['occluded_left'], truth['occluded_right']
    losses = StereoLoss()(out, truth['disparity'], *masks, stride)
    names = dict(response='rr', raw_disparity='l1_raw', disparity='l1', occlusion='occ_be')
    for ours, theirs in names.items():
        assert losses[f'loss_{ours}'].item() == pytest.approx(case['losses'][theirs], rel=1e-5)
    sum(losses.values()).backward()
    found = logits.grad.flatten()[:: case['grad_logits']['step']]
    assert relative_error(found, case['grad_logits']['values']) < 1e-4
