from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.stereo import tiny_stereo
from mmeffvit.stereo import StereoError, StereoMatcher, colour_disparity, depth_of


def test_figures():
    true = torch.tensor([[4.0, 4.0, 4.0, 4.0, 0.0]])
    occluded = torch.tensor([[True, False, False, False, False]])
    sample = dict(
        gt_disparity=true,
        gt_occlusion=occluded,
        disparity=torch.tensor([[90.0, 4.5, 6.0, 9.0, 1.0]]),
        occlusion=torch.tensor([[0.9, 0.9, 0.1, 0.1, 0.9]]),
    )
    metric = StereoError(thresholds=(1, 3))
    found = metric.compute_metrics([metric.compare(sample)])
    assert found['epe'] == pytest.approx((0.5 + 2 + 5) / 3)
    assert found['1px'] == pytest.approx(200 / 3) and found['3px'] == pytest.approx(100 / 3)
    assert found['occluded_iou'] == pytest.approx(1 / 2)
    assert found['occlusion_iou'] == pytest.approx((1 + 2) / (2 + 3))


def test_arrays():
    matcher = StereoMatcher(tiny_stereo())
    left, right = np.random.default_rng(0).integers(0, 256, (2, 30, 50, 3), dtype=np.uint8)
    found = matcher(left, right)
    assert found.disparity.shape == found.occlusion.shape == (30, 50)
    sixteen = matcher(left.astype(np.uint16) * 257, right / 255.0)
    np.testing.assert_allclose(sixteen.disparity, found.disparity, atol=1e-2)
    other = matcher.right_view(left, right)
    expected = matcher(right[:, ::-1], left[:, ::-1]).disparity[:, ::-1]
    np.testing.assert_array_equal(other.disparity, expected)
    with pytest.raises(ValueError, match='is not uint8'):
        matcher(left.astype(np.int64), right)


def test_colours_and_depth():
    disparity = np.array([[0.0, 5.0, 10.0]], np.float32)
    colours = colour_disparity(disparity, np.array([[0.0, 0.9, 0.0]]))
    assert colours[0, 1].tolist() == [0, 0, 0] and colours[0, 2].any()
    assert depth_of(disparity, 100, 0.5).tolist() == [[0.0, 10.0, 5.0]]
