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


def test_slide_nat_starts_from_nat():
    """Its first stages attend as Slide attention with one-hot kernels and NAT's projections."""
    torch.manual_seed(0)
    arch = dict(ARCH, embed_dims=32, num_heads=(1, 2, 4, 8))
    model = NAT(arch)
    public = {public_name(key): value for key, value in model.state_dict().items()}
    result = convert(public, 'nat_to_slide')
    assert result.is_exact and result.config['type'] == 'SlideNAT'
    ours = MODELS.build({'_scope_': 'mmeffvit', **result.config}).eval()
    ours.load_state_dict(result.state)
    x = torch.randn(1, 6 * 5, 64)
    theirs, layer = model.stages[1].blocks[0].attn, ours.stages[1].blocks[0].attn
    rows = [theirs.qkv(x).unflatten(-1, (3, 2, 32)), layer.qkv(x).unflatten(-1, (2, 3, 32))]
    torch.testing.assert_close(rows[1].transpose(2, 3), rows[0])
    assert not layer.relative_position_bias_table.any() and not layer.dep_conv1.weight.any()
    kept = ours.stages[2].blocks[0].attn.rpb
    assert torch.equal(kept, model.stages[2].blocks[0].attn.rpb)
