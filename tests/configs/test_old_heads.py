"""Necks and heads of mmdet 2.x and mmseg 0.x have the names and shapes of today's modules.

Published detectors and segmentors are of those versions. What these called their weights was
written down from their own modules, ``tests/data/heads_of_openmmlab_1.tsv``.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS, DefaultScope

import mmeffvit  # noqa: F401  (makes `_base_ = 'mmseg::…'` resolvable)

ROOT = Path(__file__).parents[2]


def read_layouts() -> dict[str, dict[str, str]]:
    """Names and shapes by config."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    text = (ROOT / 'tests/data/heads_of_openmmlab_1.tsv').read_text()
    for line in text.splitlines():
        if not line.startswith('#'):
            config, name, shape = line.split('\t')
            found[config][name] = shape
    return found


LAYOUTS = read_layouts()


@pytest.mark.parametrize('name', LAYOUTS)
def test_the_names_and_shapes_are_todays(name):
    config = Config.fromfile(ROOT / f'configs/{name}.py')
    pytest.importorskip(config.default_scope)
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device('meta'):
        model = MODELS.build(config.model)
    beside = {
        key: 'x'.join(map(str, value.shape))
        for key, value in model.state_dict().items()
        if not key.startswith('backbone.')
    }
    assert beside == LAYOUTS[name]


def test_every_neck_and_head_of_the_published_is_here():
    assert {'retinanet_quadtree_b1_coco', 'maskrcnn_quadtree_b1_coco'} < LAYOUTS.keys()
    assert {'semanticfpn_quadtree_b1_ade20k', 'upernet_quadtree_b2_ade20k'} < LAYOUTS.keys()
