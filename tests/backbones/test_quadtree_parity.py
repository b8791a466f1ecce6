"""Parity of whole backbones with the authors' code, through the checkpoint converter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers.goldens import load_golden, recipe
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS


def _backbone(gold: dict):
    result = convert(recipe().fill_state(gold['state']), 'quadtree')
    assert result.is_exact
    result.config['attention'].update(
        topks=gold['topks'], value_act=gold['value_act'], drop_lone_level=True
    )
    model = MODELS.build(result.config).eval()
    model.load_state_dict(result.state)
    return model


def _share_of_outliers(actual: Tensor, expected: Tensor) -> float:
    """Share of entries off by more than 1e-4; top-k may flip where the reference has ties."""
    return ((actual - expected).abs() > 1e-4 * expected.abs().max()).float().mean().item()


@pytest.mark.parametrize('name', ['b0_cls224', 'A_b0_cls224'])
def test_classification(name):
    gold = load_golden(f'quadtree/golden_{name}.pt')
    model = _backbone(gold)
    state = recipe().fill_state(gold['state'])
    image = recipe().make_input(gold['input']['shape'], gold['input']['seed'])
    with torch.no_grad():
        maps = model(image)
        logits = maps[-1].mean((2, 3)) @ state['head.weight'].T + state['head.bias']
    assert _share_of_outliers(logits, gold['logits']) == 0
    for feature, rows, step in zip(maps, gold['stage_rows'], gold['stage_row_steps']):
        tokens = feature.flatten(2).transpose(1, 2)[: len(rows), ::step]
        assert _share_of_outliers(tokens[:, : rows.shape[1]], rows) < 1e-3


def test_detection_features():
    gold = load_golden('quadtree/golden_b0_det200x264.pt')
    model = _backbone(gold)
    image = recipe().make_input(gold['input']['shape'], gold['input']['seed'])
    (H, W), (padded_H, padded_W) = gold['unpadded_size'], gold['padded_size']
    image = torch.nn.functional.pad(image, (0, padded_W - W, 0, padded_H - H))
    with torch.no_grad():
        maps = model(image)
    for feature, expected, step in zip(maps, gold['features'], gold['feature_steps']):
        assert _share_of_outliers(feature[:, :, ::step, ::step], expected) < 1e-3
