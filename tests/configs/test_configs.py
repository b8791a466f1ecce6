"""Every config parses, builds, trains one step and predicts at an odd size."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

import mmeffvit  # noqa: F401  (makes `_base_ = 'mmseg::…'` resolvable)
from helpers.config_inputs import BATCHES, TRAIN_SIZE

#: Those under names of version 0.1 inherit all they have.
CONFIGS = [
    path
    for path in sorted(Path(__file__).parents[2].glob('configs/*.py'))
    if '_deprecation_' not in path.read_text()
]
OLD_NAMES = sorted(Path(__file__).parents[2].glob('configs/*former-skipat*.py'))
#: How a backbone warns of options as version 0.1 took them.
OLD_OPTIONS = '.* (are options of the attention layer|are deprecated|is deprecated)'
#: One config per framework runs by default, the rest behind the marker.
FAST = {
    'retinanet_quadtree_b0_coco',
    'semanticfpn_quadtree_b0_ade20k',
    'quadtree_b0_imagenet',
    'uformer_skipat_t_sidd',
}
ODD_SIZE = (150, 203)
NUM_PROPOSALS = 16


def _parameters():
    for path in CONFIGS:
        marks = () if path.stem in FAST else (pytest.mark.slow,)
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize('path', [*_parameters()])
def test_config(path):
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        _build_train_predict(config)


@pytest.mark.parametrize('path', OLD_NAMES, ids=lambda path: path.stem)
def test_a_name_of_version_0_1(path):
    with pytest.warns(DeprecationWarning, match='uformer_skipat|uniformer_skipat'):
        old = Config.fromfile(path)
    new = Config.fromfile(path.with_name(path.name.replace('-', '_')))
    assert old.to_dict() == new.to_dict()


def _build_train_predict(config: Config) -> None:
    if 'data_preprocessor' in config:  # as the Runner does for mmpretrain
        config.model.setdefault('data_preprocessor', config.data_preprocessor)
    if config.default_scope == 'mmseg':  # the crop of the recipe would only cost time
        config.model.data_preprocessor.size = TRAIN_SIZE
    if 'roi_head' in config.model:  # and so would hundreds of proposals
        config.model.train_cfg.rpn_proposal.max_per_img = NUM_PROPOSALS
        config.model.test_cfg.rpn.max_per_img = NUM_PROPOSALS
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message=OLD_OPTIONS, category=DeprecationWarning)
        model = revert_sync_batchnorm(MODELS.build(config.model))
    make_batch = BATCHES[config.default_scope]

    model.train()
    batch = make_batch(config, TRAIN_SIZE, count=2)
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    loss, _ = model.parse_losses(losses)
    assert math.isfinite(loss.item())
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    broken = [
        n for n, p in model.named_parameters() if p.requires_grad and not p.grad.isfinite().all()
    ]
    assert not broken

    model.eval()
    batch = make_batch(config, ODD_SIZE, count=1)
    with torch.no_grad():
        predictions = model(**model.data_preprocessor(batch, training=False), mode='predict')
    assert len(predictions) == 1


def test_there_are_configs():
    assert len(CONFIGS) > 20
