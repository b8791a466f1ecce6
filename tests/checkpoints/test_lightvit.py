"""LightViT's public classifiers and detectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine import Config

import mmeffvit  # noqa: F401  (makes `_base_ = 'mmdet::…'` resolvable)
from helpers import public_layouts
from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.backbones import LightViT
from mmeffvit.backbones.lightvit import LIGHTVIT_ARCHS
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
GOLDENS = ['det224', 'det224x288']


def public_state(name: str = 'det224') -> dict:
    return recipe().fill_state(load_golden(f'lightvit/golden_tiny_{name}.pt')['state'])


@pytest.mark.parametrize('name', GOLDENS)
def test_maps_of_the_public_detection_code(name):
    gold = load_golden(f'lightvit/golden_tiny_{name}.pt')
    result = convert(public_state(name), 'lightvit')
    assert result.is_exact and not result.untrained
    model = MODELS.build(result.config).eval()
    model.load_state_dict(result.state)
    with torch.no_grad():
        maps = model(recipe().make_input(gold['input']['shape'], gold['input']['seed']))
    for ours, thinned, whole in zip(maps, gold['maps'], gold['map_digests'], strict=True):
        channels = ours.shape[1] // 16
        assert relative_error(ours[:, ::channels, ::3, ::3], thinned) < 1e-4
        digest = recipe().digest(ours)
        assert digest['abs_sum'] == pytest.approx(whole['abs_sum'], rel=1e-4)
        assert digest['max'] == pytest.approx(whole['max'], rel=1e-4)


def test_the_weights_say_how_many_global_tokens_there_are():
    arch = convert(public_state(), 'lightvit').config['arch']
    assert arch == dict(LIGHTVIT_ARCHS['tiny'], num_tokens=512)


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_every_size_is_told_by_its_weights(arch):
    """Names and shapes of the public classifier, made from ours."""
    with torch.device('meta'):
        model = LightViT(arch, out_type='raw')
        width = model.norm.normalized_shape[0]
        state = public_layouts.lightvit(model.state_dict())
        shapes = {'neck.0': (1280, width), 'neck.1': (1280,), 'head': (1000, 1280)}
        for layer, shape in shapes.items():
            state[f'{layer}.weight'] = torch.empty(shape)
            state[f'{layer}.bias'] = torch.empty(shape[:1])
    result = convert(state, 'lightvit', part='model')
    assert result.is_exact and not result.untrained
    assert result.config == dict(
        type='LightViT', arch=LIGHTVIT_ARCHS[arch], attention=dict(window_size=7), out_type='raw'
    )
    assert {'neck.proj.weight', 'neck.norm.bias', 'head.fc.weight'} <= result.state.keys()


def test_a_whole_detector_fills_mmdets():
    pytest.importorskip('mmdet')
    from mmengine.registry import MODELS as MM_MODELS
    from mmengine.registry import DefaultScope

    config = Config.fromfile(CONFIGS / 'maskrcnn_lightvit_t_coco.py')
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MM_MODELS.build(config.model)
    wanted = model.state_dict()
    # As the public detection code has them: its neck is TransposedFPN's LightViTFPN.
    public = {k: v for k, v in wanted.items() if not k.startswith('backbone.')}
    neck = [f'neck.extra_trans_convs.0.conv.{part}' for part in ('weight', 'bias')]
    neck += [
        f'neck.{kind}.{i}.conv.weight' for kind in ('lateral_convs', 'fpn_convs') for i in (0, 1, 2)
    ]
    neck += ['neck.extra_fpn_convs.0.conv.weight']
    assert set(neck) <= public.keys()
    with torch.device('meta'):
        backbone = public_layouts.lightvit(LightViT('tiny').state_dict())
    public.update({f'backbone.{key}': value for key, value in backbone.items()})
    result = convert(public, 'lightvit', part='model')
    assert result.is_exact
    assert {k: v.shape for k, v in result.state.items()} == {k: v.shape for k, v in wanted.items()}
