"""Checkpoints of the authors' matchers."""

from __future__ import annotations

import pytest
import torch

from helpers.goldens import recipe, require_golden
from mmeffvit import get_model
from mmeffvit.checkpoints import Weights, convert, load_weights, read_weights
from mmeffvit.matching import FeatureMatcher

GOLD = require_golden('matching/golden_matcher_lite_batch2_masked_scaled.pt')


@pytest.fixture(scope='module')
def public() -> dict[str, torch.Tensor]:
    return recipe().fill_state(GOLD['state'])


def lightning(state: dict) -> dict:
    """As Lightning saves it: under the matcher's name, beside the state of the training."""
    return {
        'epoch': 3,
        'global_step': 7,
        'pytorch-lightning_version': '1.3.5',
        'state_dict': {f'matcher.{key}': value for key, value in state.items()},
    }


def test_lightning_files_convert_and_load_by_name(tmp_path, public):
    torch.save(lightning(public), tmp_path / 'lite.ckpt')
    result = convert(read_weights(tmp_path / 'lite.ckpt'), 'matcher')
    assert result.is_exact and not result.dropped
    assert len(result.state) == len(public)
    assert 'topks' in result.notes[0]
    torch.save(result.state, tmp_path / 'lite.pth')
    model = get_model('quadtree_matcher_lite', pretrained=tmp_path / 'lite.pth')
    weight = model.transformer.layers[3].attn.q.weight
    public_weight = public['loftr_coarse.layers.3.attn.q_proj.weight']
    assert torch.equal(weight, public_weight.flatten(1))


def test_the_raw_file_names_its_converter(tmp_path, public):
    torch.save(lightning(public), tmp_path / 'lite.ckpt')
    with pytest.raises(ValueError, match='matcher'):
        get_model('quadtree_matcher_lite', pretrained=tmp_path / 'lite.ckpt')


def test_loftr_is_told_apart():
    model = FeatureMatcher(**FeatureMatcher.zoo['loftr_outdoor'])
    ours = model.state_dict()
    names = {'transformer.': 'loftr_coarse.', 'fine.transformer.': 'loftr_fine.'}
    public = {}
    for key, value in ours.items():
        for start, other in names.items():
            if key.startswith(start):
                key = key.replace(start, other, 1)
                for mine, theirs in (('q', 'q_proj'), ('k', 'k_proj'), ('v', 'v_proj')):
                    key = key.replace(f'.attn.{mine}.', f'.{theirs}.')
                key = key.replace('.attn.proj.', '.merge.')
        key = key.replace('fine.down_proj', 'fine_preprocess.down_proj')
        key = key.replace('fine.merge_feat', 'fine_preprocess.merge_feat')
        public[f'matcher.{key}'] = value
    result = convert(public, 'matcher')
    assert result.is_exact
    assert result.config['transformer']['attention'] == dict(type='LinearAttention')
    assert 'historical_position' in result.notes[0]
    load_weights(model, Weights(result.state, 'memory'))


@pytest.mark.parametrize(
    'key', ['backbone.layer2.1.bn1.weight', 'loftr_fine.layers.0.merge.weight']
)
def test_a_missing_tensor_is_named(public, key):
    result = convert({k: v for k, v in public.items() if k != key}, 'matcher')
    assert not result.is_exact and len(result.missing) == 1
