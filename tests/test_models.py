"""Building models from names, configs and parts of configs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmeffvit.backbones import VisionTransformer
from mmeffvit.denoising import Restorer, Uformer
from mmeffvit.models import build_model, find_model, load_backbone

TINY_VIT = "dict(type='mmeffvit.VisionTransformer', arch=dict(embed_dims=8, depth=1, num_heads=1))"
TINY_UFORMER = "dict(type='Uformer', arch=dict(embed_dims=4, depths=(1,) * 9))"


@pytest.fixture
def denoiser(tmp_path):
    """The path of a denoiser's config."""
    path = tmp_path / 'denoiser.py'
    model = f"dict(type='Restorer', backbone={TINY_UFORMER})"
    path.write_text(f"default_scope = 'mmeffvit'\nmodel = {model}\n")
    return path


def test_a_path_or_a_config_is_built(denoiser):
    for config in (denoiser, str(denoiser), Config.fromfile(denoiser)):
        assert isinstance(build_model(config), Restorer)


def test_find_model_takes_names_and_paths(denoiser):
    assert isinstance(find_model(str(denoiser)), Restorer)
    assert isinstance(find_model('uformer_t'), Uformer)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('no.py', 'no.py does not exist: give the path of a config file'),
        ('uformer_tt', r"no model 'uformer_tt' \(uformer_t"),
    ],
)
def test_what_is_neither_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        find_model(name)


def test_a_config_without_model_is_named(tmp_path):
    path = tmp_path / 'schedule.py'
    path.write_text('max_epochs = 3\n')
    with pytest.raises(ValueError, match=r'schedule\.py has no model'):
        build_model(path)
    path.write_text("default_scope = 'mmeffvit'\nmodel = dict(type='Restorer')\n")
    with pytest.raises(ValueError, match=r'schedule\.py has no backbone'):
        load_backbone(path)


def test_the_backbone_comes_with_the_normalization_of_its_config(tmp_path):
    path = tmp_path / 'config.py'
    processor = 'dict(mean=[1, 2, 3], std=[2, 4, 8])'
    path.write_text(
        "default_scope = 'mmeffvit'\n"
        f'model = dict(data_preprocessor={processor}, backbone={TINY_VIT})\n'
    )
    backbone, normalize = load_backbone(path)
    assert isinstance(backbone, VisionTransformer) and not backbone.training
    image = np.full((4, 5, 3), (5, 10, 19), np.uint8)
    expected = torch.full((3, 4, 5), 2.0)
    torch.testing.assert_close(normalize(image), expected)


def test_denoisers_take_images_in_the_unit_range(denoiser):
    _, normalize = load_backbone(denoiser)
    white = np.full((4, 5, 3), 255, np.uint8)
    torch.testing.assert_close(normalize(white), torch.ones(3, 4, 5))
