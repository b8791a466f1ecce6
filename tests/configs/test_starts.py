"""Where the detectors and segmentors start: the published weights that their configs name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS, DefaultScope

import mmeffvit  # noqa: F401  (makes `_base_ = 'mmseg::…'` resolvable)
from helpers.public_layouts import layout_of
from mmeffvit.checkpoints import FAMILIES, convert
from mmeffvit.checkpoints.index import SCHEME, split_address
from mmeffvit.checkpoints.load import fill

ROOT = Path(__file__).parents[2] / 'configs'
NAMES = [
    path.stem
    for path in sorted(ROOT.glob('*.py'))
    if '_deprecation_' not in path.read_text() and not path.stem.endswith('_shapes')
]
DENSE = [name for name in NAMES if name.endswith(('_coco', '_ade20k'))]
#: No weights of these are published, nor of a baseline that converts: they start from scratch.
WITHOUT = r'.+_dualtoken_.+|.+_(slide_)?nat_.+'
#: What a start leaves at its initial value, by key map.
FRESH = {
    'vit_to_skipat': r'blocks\.\d+\.attn\.phi\..+',
    'vit_to_lookupvit': r'blocks\.\d+\.(gather\.norm_[qk]|infuse|norm|mlp)\..+|norm_lookup\..+',
    'pvt': r'stages\.\d\.blocks\.\d+\.attn\.phi\..+',  # SkipAt on PVT
}
#: What a start has and the model does not.
UNUSED = {
    'pvt': r'stages\.\d\.blocks\.\d+\.(attn|norm1)\..+',
    'vit': r'norm\..+',
    'vit_to_skipat': r'norm\..+',
    'skipat': r'norm\..+',
}


@cache
def converted(checkpoint: str) -> dict[str, torch.Tensor]:
    """What a start holds after conversion, on the meta device: several configs share one."""
    entry, family = split_address(checkpoint)
    known = (*FAMILIES[family].options, 'config') if family == entry.family else ()
    options = {key: value for key, value in entry.options.items() if key in known}
    result = convert(layout_of(entry), family, 'model', **options)
    assert result.is_exact
    return {key: value.to('meta') for key, value in result.state.items()}


@pytest.mark.parametrize('name', DENSE)
def test_a_detector_or_segmentor_starts_from_published_weights(name):
    config = Config.fromfile(ROOT / f'{name}.py')
    init = config.model.backbone.get('init_cfg')
    if re.fullmatch(WITHOUT, name):
        assert init is None
        return
    assert init['type'] == 'Pretrained' and init['checkpoint'].startswith(SCHEME)
    entry, family = split_address(init['checkpoint'])
    state = converted(init['checkpoint'])
    pytest.importorskip(config.default_scope)
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device('meta'):
        backbone = MODELS.build({**config.model.backbone, 'init_cfg': None})
    loaded = fill(backbone, dict(state), 'made')
    assert loaded.is_plausible, str(loaded)
    fresh, unused = FRESH.get(family, ''), UNUSED.get(family, '')
    assert not [key for key in loaded.missing if not re.fullmatch(fresh, key)]
    assert not [key for key in loaded.unexpected if not re.fullmatch(unused, key)]
    assert not loaded.mismatched
    value_act = entry.options.get('value_act')
    if value_act:
        assert config.model.backbone.attention.value_act == value_act


@pytest.mark.parametrize('name', [name for name in NAMES if name not in DENSE])
def test_classifiers_and_denoisers_start_from_scratch(name):
    init = Config.fromfile(ROOT / f'{name}.py').model.get('backbone', {}).get('init_cfg') or {}
    assert init.get('type') != 'Pretrained'
