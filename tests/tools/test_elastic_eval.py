"""One LookupViT checkpoint at several sizes: the command's figures and its mistakes."""

import json

import pytest
import torch

pytest.importorskip('mmpretrain')

import cv2
import numpy as np
from mmengine import Config
from mmengine.registry import MODELS, init_default_scope

import mmeffvit  # noqa: F401
from helpers.tool_runs import ROOT, start_tool
from shapes import KINDS

TOOL = 'analysis_tools/elastic_eval.py'
CONFIG = ROOT / 'configs' / 'lookupvit_ti_shapes.py'


@pytest.fixture
def checkpoint(tmp_path):
    config = Config.fromfile(CONFIG)
    init_default_scope('mmpretrain')
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict()), path)
    return path


@pytest.mark.slow
def test_evaluates_and_draws(tmp_path, checkpoint):
    for label in KINDS:
        folder = tmp_path / 'data' / 'val' / label
        folder.mkdir(parents=True)
        image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
        cv2.imwrite(str(folder / 'a.jpg'), image)
    done = start_tool(
        TOOL,
        CONFIG,
        checkpoint,
        *('--sizes', '1', '2x3', '8'),
        *('--data-root', tmp_path / 'data'),
        *('--work-dir', tmp_path / 'work'),
        *('--json', tmp_path / 'curve.json', '--out', tmp_path / 'curve.png'),
        *('--cfg-options', 'test_dataloader.num_workers=0'),
        'test_dataloader.persistent_workers=False',
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    records = json.loads((tmp_path / 'curve.json').read_text())
    assert [record['size'] for record in records] == [[1, 1], [2, 3], [8, 8]]
    costs = [record['macs'] for record in records]
    assert costs == sorted(costs) and costs[0] < costs[1]
    # The same image in every class: one is right whatever the weights are.
    assert all(record['metrics']['accuracy/top1'] == 12.5 for record in records)
    assert (tmp_path / 'curve.png').stat().st_size > 1000


def test_the_size_is_an_option_of_every_command():
    config = Config.fromfile(CONFIG)
    config.merge_from_dict({'model.backbone.compressed_size': [2, 3]})
    assert MODELS.build(config.model.backbone).compressed_grid((8, 8)) == (2, 3)


def test_bad_sizes_are_usage_errors(checkpoint, tmp_path):
    done = start_tool(TOOL, CONFIG, checkpoint, '--sizes', '0', cwd=tmp_path)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
