from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.hub import get_config

from mmeffvit.utils import compat

CONFIGS = Path(__file__).parents[2] / 'configs'

#: One part that each library ships.
PARTS = {
    'mmdet': '_base_/models/retinanet_r50_fpn.py',
    'mmseg': '_base_/models/fpn_r50.py',
    'mmpretrain': '_base_/models/resnet50.py',
    'mmeffvit': '_base_/models/retinanet_pyramid.py',
}


def inherit(folder, base):
    """Read a config of another project that has one base."""
    path = folder / 'mine.py'
    path.write_text(f'_base_ = {base!r}\nmine = 1\n')
    return Config.fromfile(path)


def only(*distributions):
    """A stand-in for importlib.metadata.distribution that knows these distributions only."""

    def distribution(name):
        if name not in distributions:
            raise PackageNotFoundError(name)

    return distribution


@pytest.mark.parametrize('package', PARTS)
def test_parts_are_inherited_from_a_project_elsewhere(tmp_path, package):
    if package != 'mmeffvit':
        pytest.importorskip(package)
    cfg = inherit(tmp_path, f'{package}::{PARTS[package]}')
    assert cfg.mine == 1
    assert 'type' in cfg.model


@pytest.mark.parametrize(
    'name',
    [
        'retinanet_quadtree_b0_shapes.py',
        'semanticfpn_quadtree_b0_ade20k.py',
        'quadtree_b0_imagenet.py',
    ],
)
def test_configs_are_inherited_unchanged(tmp_path, name):
    cfg = inherit(tmp_path, f'mmeffvit::{name}')
    cfg.pop('mine')
    assert cfg.to_dict() == Config.fromfile(CONFIGS / name).to_dict()


def test_missing_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='retinanet_b9'):
        inherit(tmp_path, 'mmeffvit::retinanet_b9.py')


def test_hub_finds_the_configs_beside_their_parts():
    cfg = get_config('mmeffvit::_base_/../retinanet_quadtree_b2_coco.py')
    assert cfg.model.backbone.arch == 'b2'


@pytest.mark.parametrize(
    ('distributions', 'expected'),
    [(['mmsegmentation'], 'mmsegmentation'), (['onedl-mmsegmentation'], 'mmseg')],
)
def test_mmseg_is_looked_up_under_the_distribution_at_hand(monkeypatch, distributions, expected):
    packages = {'mmseg': 'mmsegmentation'}
    monkeypatch.setattr(config_utils, 'MODULE2PACKAGE', packages)
    monkeypatch.setattr(Config, '_get_cfg_path', staticmethod(Config._get_cfg_path))
    monkeypatch.setattr(compat, 'distribution', only(*distributions))
    compat.enable_config_inheritance()
    assert packages == {'mmseg': expected, 'mmeffvit': 'mmeffvit'}
