from __future__ import annotations

import numpy as np
from mmengine.config import Config

import pairs
from helpers.tool_runs import ROOT
from mmeffvit.matching import HomographyPairs

BARS = pairs.DEMOS['stereo']


def test_sift_finds_some_true_matches():
    pair = HomographyPairs(1, (128, 160), pipeline=[]).get_data_info(0)
    points0, points1 = pairs.sift_matches(pair['image0'], pair['image1'])
    assert len(points0) == len(points1) > 10
    homogeneous = np.column_stack([points0, np.ones(len(points0))]) @ pair['homography'].T
    error = np.linalg.norm(homogeneous[:, :2] / homogeneous[:, 2:] - points1, axis=1)
    assert np.median(error) < 1.5
    flat = np.full((64, 64), 0.5, np.float32)
    assert len(pairs.sift_matches(flat, flat)[0]) == 0


def test_what_misses_its_bar_is_said(capsys):
    good = {'stereo/epe': 1.0, 'stereo/3px': 7.0, 'stereo/occluded_iou': 0.6}
    rows = {'seed 0': good, 'seed 1': {**good, 'stereo/epe': 2.0}, 'tree': {}}
    missed = pairs.print_table(BARS, rows, seeds=2)
    assert missed == ['seed 1: end-point error (px) 2.000, not <= 1.2']


def test_a_constant_guess():
    config = Config.fromfile(ROOT / 'configs/sttr_t_shapes.py')
    config.val_dataloader.dataset.num_pairs = 2
    (figures,) = pairs.constant_guess(config).values()
    assert 1 < figures['stereo/epe'] < 10
