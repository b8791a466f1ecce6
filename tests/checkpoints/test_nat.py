"""The key map of NAT, against state dicts with the names of the authors' code."""

from __future__ import annotations

import re

import pytest
import torch

from mmeffvit.backbones import NAT, DiNAT
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS

ARCH = dict(embed_dims=16, depths=(1, 2, 1, 1), num_heads=(2, 2, 4, 4), mlp_ratios=(3, 3, 3, 3))


def public_name(key: str) -> str:
    key = re.sub(r'^stages\.0\.patch_embed', 'patch_embed', key)
    key = re.sub(r'^stages\.(\d)\.patch_embed', lambda m: f'levels.{int(m[1]) - 1}.downsample', key)
    key = re.sub(r'^stages', 'levels', key)
    key = re.sub(r'scale([12])\.weight', r'gamma\1', key)
    return re.sub(r'^norms\.(\d)', r'norm\1', key)


@pytest.mark.parametrize('layer_scale', [None, 1e-5])
@pytest.mark.parametrize(('family', 'build'), [('nat', NAT), ('dinat', DiNAT)])
def test_a_detectors_backbone_converts_exactly(family, build, layer_scale):
    torch.manual_seed(0)
    model = build(dict(ARCH, layer_scale=layer_scale)).eval()
    public = {public_name(key): value for key, value in model.state_dict().items()}
    result = convert(public, family)
    assert result.is_exact and not result.dropped
    ours = MODELS.build({'_scope_': 'mmeffvit', **result.config}).eval()
    ours.load_state_dict(result.state)
    image = torch.rand(1, 3, 60, 90)
    for found, expected in zip(ours(image), model(image), strict=True):
        assert torch.equal(found, expected)


def test_a_classifier_has_the_last_norm_only():
    model = NAT(ARCH, out_indices=3)
    public = {
        public_name(key).replace('norm3', 'norm'): value
        for key, value in model.state_dict().items()
    }
    public |= {'head.weight': torch.zeros(5, 128), 'head.bias': torch.zeros(5)}
    result = convert(public, 'nat', part='model')
    assert result.is_exact
    assert result.state['head.fc.weight'].shape == (5, 128)
    assert result.untrained == [
        f'norms.{i}.{leaf}' for i in range(3) for leaf in ('weight', 'bias')
    ]
