"""Every published file of the index: its layout fills the model that the index says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from mmengine import Config
from mmengine.registry import MODELS as MM_MODELS
from mmengine.registry import DefaultScope

import mmeffvit
from helpers.public_layouts import layout_of
from mmeffvit.checkpoints import FAMILIES, CheckpointError
from mmeffvit.checkpoints.convert import convert
from mmeffvit.checkpoints.index import (
    find_published,
    published_files,
    published_for,
    resolve,
    split_address,
)
from mmeffvit.checkpoints.load import fill
from mmeffvit.checkpoints.published import check_model

ROOT = Path(__file__).parents[2]
FILES = published_files()
each_file = pytest.mark.parametrize('name', FILES)
with_configs = pytest.mark.parametrize('name', [n for n, entry in FILES.items() if entry.configs])


def options_of(entry):
    known = (*FAMILIES[entry.family].options, 'config')
    return {key: value for key, value in entry.options.items() if key in known}


@each_file
def test_the_layout_of_the_file_fills_the_model(name):
    entry = FILES[name]
    result = convert(layout_of(entry), entry.family, 'model', **options_of(entry))
    assert result.is_exact, (result.missing[:3], result.unexpected[:3], result.mismatched[:3])
    check_model(entry, result, Path('made'))


@each_file
def test_an_entry_is_whole(name):
    entry = FILES[name]
    assert entry.family in FAMILIES
    assert entry.part in ('backbone', 'classifier', 'detector', 'segmentor', 'denoiser', 'matcher')
    assert entry.use and urlsplit(entry.origin).scheme == 'https'
    assert entry.model is None or entry.model in mmeffvit.list_models()
    assert entry.url is None or urlsplit(entry.url).scheme == 'https'
    assert Path(entry.file_name).suffix in ('.pth', '.t7', '.ckpt', '.safetensors')
    assert all(char in '0123456789abcdef' for char in entry.sha256)


def test_no_two_files_have_one_address():
    addresses = [entry.url for entry in FILES.values() if entry.url]
    assert len(set(addresses)) == len(addresses) > 70
    names = [entry.file_name for entry in FILES.values()]
    assert len(set(names)) == len(names)


@with_configs
def test_the_whole_file_fills_the_whole_model_of_its_configs(name):
    """Necks and heads under their names of mmdet 2.x and mmseg 0.x, which today's have."""
    entry = FILES[name]
    for config in entry.configs:
        cfg = Config.fromfile(ROOT / f'configs/{config}.py')
        pytest.importorskip(cfg.default_scope)
        device = 'cpu' if cfg.default_scope == 'mmeffvit' else 'meta'
        with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device(device):
            model = MM_MODELS.build(cfg.model)
        rest = {k: v for k, v in model.state_dict().items() if not k.startswith('backbone.')}
        result = convert(layout_of(entry, rest), entry.family, 'model', **options_of(entry))
        wanted = {k: v.shape for k, v in model.state_dict().items()}
        found = {k: v.shape for k, v in result.state.items()}
        backbone = getattr(model, 'backbone', None)
        outputs = tuple(f'backbone.{k}' for k in getattr(backbone, 'output_layers', ()))
        assert found == {k: v for k, v in wanted.items() if not k.startswith(outputs) or k in found}
        value_act = entry.options.get('value_act')
        if value_act:
            assert cfg.model.backbone.get('attention', {}).get('value_act', 'gelu') == value_act


@with_configs
def test_the_figure_is_that_of_the_metafile(name):
    """Both quote the origin."""
    listed = [
        model
        for path in (ROOT / 'configs/metafiles').glob('*.yml')
        for model in yaml.safe_load(path.read_text())['Models']
    ]
    for config in FILES[name].configs:
        (model,) = (model for model in listed if model['Name'] == config)
        quoted = {}
        for result in model['Results']:
            for metric, value in result['Metrics'].items():
                quoted.setdefault(metric, []).append(value)
        for metric, value in FILES[name].results.items():
            assert value in quoted[metric]


def test_names_that_there_are_not():
    with pytest.raises(CheckpointError, match=r'did you mean quadtree_b\d or'):
        find_published('quadtree_b')
    with pytest.raises(CheckpointError, match=r"called 'zzz'\. tools/weights\.py list"):
        split_address('mmeffvit://zzz')


def test_the_word_published():
    detector = 'configs/retinanet_quadtree_b2_coco.py'
    assert resolve('published', detector) == 'mmeffvit://retinanet_quadtree_b2_coco'
    assert resolve('published', 'configs/quadtree_b2_imagenet.py') == 'mmeffvit://quadtree_b2'
    assert resolve('epoch_12.pth', detector) == 'epoch_12.pth'
    assert published_for('lookupvit_b_imagenet') is None
    with pytest.raises(CheckpointError, match='No weights are published for the config mine'):
        resolve('published', 'mine.py')


def test_a_family_of_the_address():
    entry, family = split_address('mmeffvit://swin_t/swin_to_slide')
    assert (entry.name, family) == ('swin_t', 'swin_to_slide')


@pytest.mark.parametrize('name', ['quadtree_b0', 'vit_t', 'cswin_t'])
def test_a_backbone_takes_its_part_of_the_whole(name):
    entry = FILES[name]
    result = convert(layout_of(entry), entry.family, 'model', **options_of(entry))
    state = {key: torch.zeros(value.shape) for key, value in result.state.items()}
    assert fill(mmeffvit.get_model(entry.model), state, 'made').is_exact
