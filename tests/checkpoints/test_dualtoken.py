from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine import Config

import mmeffvit  # noqa: F401  (makes `_base_ = 'mmpretrain::…'` resolvable)
from helpers.goldens import load_golden, recipe
from mmeffvit.backbones import DualTokenViT
from mmeffvit.checkpoints import convert

CONFIG = Path(__file__).parents[2] / 'configs' / 'dualtoken_t_imagenet.py'


def public_state(name: str = 'T_mix_cls224') -> dict:
    return recipe().fill_state(load_golden(f'dualtoken/golden_{name}.pt')['state'])


def test_a_whole_classifier_fills_mmpretrains():
    pytest.importorskip('mmpretrain')
    from mmengine.registry import MODELS, DefaultScope

    result = convert(public_state(), 'dualtoken', part='model')
    assert result.is_exact
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config.fromfile(CONFIG).model)
    model.load_state_dict(result.state)


@pytest.mark.parametrize(
    'name, token_mlp, token_size', [('T_mix_cls224', 'mix', 7), ('S_mlp_t16_320', 'mlp', 4)]
)
def test_the_weights_say_which_variant_they_are(name, token_mlp, token_size):
    config = convert(public_state(name), 'dualtoken').config
    assert config['attention'] == dict(token_mlp=token_mlp, token_size=token_size)
    assert config['arch']['num_heads'] == (2, 4, 8)
    assert config['out_type'] == 'raw'


def test_classification_weights_start_a_detector():
    result = convert(public_state(), 'dualtoken')
    missing, unexpected = DualTokenViT('tiny').load_state_dict(result.state, strict=False)
    assert set(missing) == {f'norm{i}.{part}' for i in range(3) for part in ('weight', 'bias')}
    assert not unexpected  # the classifier's norm is left out


def test_dense_weights():
    state = {k: v for k, v in public_state().items() if not k.startswith(('norm.', 'neck', 'head'))}
    state.update(
        {f'norm{i}.{k}': torch.ones(48 * 2**i) for i in range(3) for k in ('weight', 'bias')}
    )
    result = convert(state, 'dualtoken')
    assert result.is_exact and not result.untrained
    assert 'out_type' not in result.config


def test_a_foreign_key_is_reported():
    state = {**public_state(), 'stages.0.0.attn.table': torch.zeros(1)}
    assert convert(state, 'dualtoken').unexpected == ['stages.0.0.attn.table']
