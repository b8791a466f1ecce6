from __future__ import annotations

import pytest
import torch

from helpers.goldens import recipe, relative_error, require_golden
from mmeffvit.matching import CoarseMatchingLoss, FineMatchingLoss, PairSample
from mmeffvit.matching.networks.coarse import CellMatches
from mmeffvit.matching.runtime.supervision import fine_targets, supervise, training_matches

CASES = require_golden('matching/golden_supervision.pt')['cases']


def plane_depth(normal, offset, intrinsics, size) -> torch.Tensor:
    H, W = size
    y, x = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing='ij')
    pixels = torch.stack([x, y, torch.ones_like(x)], -1)
    rays = pixels @ torch.linalg.inv(intrinsics.double()).T
    return (offset / (rays @ normal)).float()


def sample_of(case: dict) -> PairSample:
    normal = torch.tensor(case['plane']['normal'], dtype=torch.float64)
    normal, offset = normal / normal.norm(), case['plane']['offset']
    R, t = case['R'].double(), case['t'].double()
    normal1 = R @ normal
    depth0 = plane_depth(normal, offset, case['K'], case['full_hw'])
    depth1 = plane_depth(normal1, offset + normal1 @ t, case['K'], case['full_hw'])
    if case['plane']['holes'] is not None:
        depth0[5:20, 30:60] = 0
        depth1[:10, :20] = 0
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = case['R'], case['t']
    scale = tuple(case['scale'] or (1.0, 1.0))
    sample = PairSample(metainfo=dict(scale0=scale, scale1=scale))
    sample.set_data(
        dict(
            depth0=depth0,
            depth1=depth1,
            intrinsics0=case['K'],
            intrinsics1=case['K'],
            pose=pose,
        )
    )
    return sample


@pytest.fixture(scope='module', params=CASES)
def supervised(request):
    case = CASES[request.param]
    grid = tuple(side // 8 for side in case['image_hw'])
    masks = [None, None]
    if case['masks'] is not None:
        masks = []
        for h, w in case['masks']:
            mask = torch.zeros(1, *grid, dtype=torch.bool)
            mask[:, :h, :w] = True
            masks.append(mask.flatten(1))
    sample = sample_of(case)
    return case, grid, masks, sample, supervise([sample], grid, grid, 8, *masks)


def test_true_matches(supervised):
    case, _, _, sample, found = supervised
    assert torch.equal(found.matches.cell0, case['i_ids'])
    assert torch.equal(found.matches.cell1, case['j_ids'])
    assert relative_error(found.warped[0], case['warped0']) < 1e-5
    half = torch.tensor([sample.scale(1)]) * 4
    targets = fine_targets(found, found.matches, half)
    assert (targets - case['expec_f_gt']).abs().max() < 1e-4


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('fine', ['l2_with_std', 'l2'])
def test_losses(supervised, sparse, fine):
    case, grid, masks, _, found = supervised
    make, seed = recipe().make_input, case['fake']['seed']
    L, M = grid[0] * grid[1], len(case['i_ids'])
    true = torch.zeros(1, L, L)
    true[0, case['i_ids'], case['j_ids']] = 1
    confidence = (2 * make((1, L, L), seed, 0) - 5).sigmoid()
    confidence = confidence + 0.6 * true * make((1, L, L), seed + 1, 0).sigmoid()
    confidence = confidence.clamp(0, 1).requires_grad_()
    offset = 0.5 * make((M, 2), seed + 2, 0)
    expectation = torch.cat([offset, 0.2 + make((M, 1), seed + 3, 0).abs()], 1).requires_grad_()
    weight = None
    if masks[0] is not None:
        weight = (masks[0].unsqueeze(2) & masks[1].unsqueeze(1)).float()
    coarse = CoarseMatchingLoss(sparse=sparse)(confidence, found.matches, weight)
    refined = FineMatchingLoss(fine)(expectation, case['expec_f_gt'])
    recorded = case['losses'][f'{"sparse" if sparse else "dense"}_{fine}']
    assert coarse.item() == pytest.approx(recorded['loss_c'], rel=1e-5)
    assert refined.item() == pytest.approx(recorded['loss_f'], rel=1e-5)
    (coarse + refined).backward()
    assert relative_error(expectation.grad, recorded['grad_expec']) < 1e-5
    total = confidence.grad.double().abs().sum().item()
    assert total == pytest.approx(recorded['grad_conf']['abs_sum'], rel=1e-4)
    if not sparse:
        loss = CoarseMatchingLoss('cross_entropy')(confidence, found.matches, weight)
        expected = case['losses']['dense_cross_entropy']['loss_c']
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_without_any_match_the_losses_have_gradients():
    nothing = CellMatches(*(torch.zeros(0, dtype=torch.long) for _ in range(3)), torch.zeros(0))
    confidence = torch.rand(1, 6, 6, requires_grad=True)
    expectation = torch.zeros(0, 3, requires_grad=True)
    loss = CoarseMatchingLoss(sparse=True)(confidence, nothing)
    (loss + FineMatchingLoss()(expectation, torch.zeros(0, 2))).backward()
    assert loss.item() == 0 and confidence.grad.eq(0).all()


def test_a_homography_of_a_shift():
    sample = PairSample()
    sample.homography = torch.tensor([[1.0, 0, 16], [0, 1, 8], [0, 0, 1]])
    found = supervise([sample], (6, 8), (6, 8), 8)
    y, x = found.matches.cell0 // 8, found.matches.cell0 % 8
    assert torch.equal(found.matches.cell1, (y + 1) * 8 + x + 2)
    assert len(y) == 5 * 6 - 1  # cell 0 collects what leaves the image


def test_a_pair_without_ground_truth_is_refused():
    with pytest.raises(ValueError, match='needs a homography'):
        supervise([PairSample()], (2, 2), (2, 2), 8)


@pytest.mark.parametrize('found', [0, 10, 1000])
def test_the_fine_stage_gets_as_many_matches_as_asked(found):
    torch.manual_seed(0)
    ids = torch.arange(found)
    predicted = CellMatches(ids, ids, ids, torch.ones(found))
    true = CellMatches(*(torch.arange(50),) * 3, torch.zeros(50))
    mixed = training_matches(predicted, true, 320, 0.3)
    assert len(mixed.pair) == 96
    assert (mixed.confidence == 0).sum() >= 48
