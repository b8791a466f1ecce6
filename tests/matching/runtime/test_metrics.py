from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.goldens import require_golden
from mmeffvit.matching import HomographyAUC, MatchPrecision, PoseAUC
from mmeffvit.matching.estimation import corner_error, estimate_pose, pose_errors
from mmeffvit.matching.geometry import symmetric_epipolar_distance, warp_by_homography
from mmeffvit.matching.runtime.metrics import error_auc

GOLD = require_golden('matching/golden_metrics.pt')


def test_auc():
    found = error_auc(GOLD['auc']['errors'].tolist(), (5, 10, 20))
    assert found == pytest.approx(list(GOLD['auc']['result'].values()))
    assert error_auc([0.0, 0.0], (5,)) == [1.0] and error_auc([float('inf')], (5,)) == [0.0]


def test_pose_errors():
    case = GOLD['pose_error']
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = case['R'].numpy(), case['t'].numpy()
    rotation, translation = pose_errors(case['R_est'].numpy(), case['t_est'].numpy(), pose)
    assert rotation == pytest.approx(case['R_err']) and translation == pytest.approx(case['t_err'])


def test_epipolar_distance():
    case = GOLD['epipolar']
    args = (case[key] for key in ('points0', 'points1', 'E', 'K0', 'K1'))
    torch.testing.assert_close(symmetric_epipolar_distance(*args), case['result'])


def test_an_exact_pose_is_found():
    case, exact = GOLD['epipolar'], GOLD['exact_pose']
    pose = np.eye(4)
    pose[:3, :3] = GOLD['pose_error']['R'].numpy()
    pose[:3, 3] = GOLD['pose_error']['t'].numpy()
    points0, points1 = case['points0'].numpy(), exact['points1_exact'].numpy()
    K0, K1 = case['K0'].numpy(), case['K1'].numpy()
    R, t, inliers = estimate_pose(points0, points1, K0, K1)
    assert max(pose_errors(R, t, pose)) < 1e-2 and inliers.sum() == exact['inliers']
    assert estimate_pose(points0[:4], points1[:4], K0, K1) is None
    with pytest.raises(ValueError, match="estimator='x'"):
        estimate_pose(points0, points1, K0, K1, estimator='x')


def homography_sample(noise: float, scale=(1.0, 1.0)) -> dict:
    homography = torch.tensor([[1.0, 0.1, 5], [-0.1, 1, 3], [0, 0, 1]])
    y, x = torch.meshgrid(torch.arange(0, 96, 8.0), torch.arange(0, 128, 8.0), indexing='ij')
    points0 = torch.stack([x, y], -1).flatten(0, 1)
    points1 = warp_by_homography(points0, homography)
    points1[:, 0] += noise
    inside = ((points1 >= 0) & (points1 < torch.tensor([128.0, 96.0]))).all(1)
    S = torch.diag(torch.tensor([*scale, 1.0]))
    return dict(
        homography=S @ homography @ torch.linalg.inv(S),
        points0=points0[inside] * torch.tensor(scale),
        points1=points1[inside] * torch.tensor(scale),
        confidence=torch.ones(int(inside.sum())),
        size0=(96, 128),
        size1=(96, 128),
        scale0=scale,
        scale1=scale,
    )


@pytest.mark.parametrize('scale', [(1.0, 1.0), (2.0, 3.0)])
def test_matches_of_a_homography(scale):
    metrics = MatchPrecision(thresholds=(1, 3)), HomographyAUC(thresholds=(3,))
    for noise, precise, auc in ((0.0, 1.0, 1.0), (2.0, 0.0, 1 / 3)):
        sample = homography_sample(noise, scale)
        found = metrics[0].evaluate_pair(sample)
        assert found['mma@1'] == precise and found['mma@3'] == 1
        # Every true pair of cells is found, and those whose nearest cell is another's.
        assert 0.9 < found['recall'] < 1.3
        error = metrics[1].evaluate_pair(sample)
        assert metrics[1].compute_metrics([error])['auc@3'] == pytest.approx(auc, abs=0.4)


def test_a_pair_without_matches_counts_as_wrong():
    sample = homography_sample(0.0)
    sample.update(points0=torch.zeros(0, 2), points1=torch.zeros(0, 2), confidence=torch.zeros(0))
    assert MatchPrecision().evaluate_pair(sample)['mma@3'] == 0
    assert HomographyAUC().evaluate_pair(sample)['error'] == float('inf')


def test_pose_metric():
    case = GOLD['epipolar']
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = GOLD['pose_error']['R'], GOLD['pose_error']['t']
    sample = dict(
        points0=case['points0'],
        points1=GOLD['exact_pose']['points1_exact'].float(),
        confidence=torch.ones(60),
        intrinsics0=case['K0'],
        intrinsics1=case['K1'],
        pose=pose,
    )
    metric = PoseAUC()
    result = metric.evaluate_pair(sample)
    found = metric.compute_metrics([result])
    assert result['error'] < 0.1 and found['precision'] == 1 and found['auc@5'] > 0.95


def test_corner_error():
    moved = np.eye(3)
    moved[0, 2] = 4
    assert corner_error(moved, np.eye(3), (10, 20)) == pytest.approx(4)
    assert corner_error(None, np.eye(3), (10, 20)) == float('inf')
