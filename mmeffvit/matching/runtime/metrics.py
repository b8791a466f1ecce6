from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from ...registry import METRICS
from ..data.structures import PairSample
from ..estimation import corner_error, estimate_homography, estimate_pose, pose_errors
from ..geometry import essential_of, symmetric_epipolar_distance, warp_by_homography
from .supervision import supervise

#: Pixels per cell of which recall is counted.
CELL = 8


def error_auc(errors: Sequence[float], thresholds: Sequence[float]) -> list[float]:
    """Area under the curve of recall over error, up to each threshold and divided by it.

    Args:
        errors (Sequence[float]): One per pair; infinite for failures.
        thresholds (Sequence[float]): Upper ends.

    Returns:
        list[float]: One area per threshold, in [0, 1].

    Source: the evaluation of Sarlin et al., "SuperGlue" (CVPR 2020).
    """
    ordered = np.concatenate([[0.0], np.sort(np.asarray(errors, np.float64))])
    recall = np.linspace(0, 1, len(ordered))
    areas = []
    for threshold in thresholds:
        last = int(np.searchsorted(ordered, threshold))
        x = np.concatenate([ordered[:last], [threshold]])
        y = np.concatenate([recall[:last], recall[last - 1 : last]])
        area = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum()
        areas.append(float(area / threshold))
    return areas


def most_confident(sample: dict, count: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the ``count`` most confident matches of a predicted sample, on the CPU."""
    points0, points1 = (sample[f'points{side}'].cpu().float() for side in (0, 1))
    if count is None or len(points0) <= count:
        return points0, points1
    best = sample['confidence'].cpu().topk(count).indices
    return points0[best], points1[best]


class _PairMetric(BaseMetric):
    """Base class of metrics that look at one pair after the other."""

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Evaluate the pairs of one batch."""
        self.results.extend(self.evaluate_pair(sample) for sample in data_samples)

    def evaluate_pair(self, sample: dict) -> dict[str, float]:
        """Figures of one pair."""
        raise NotImplementedError


@METRICS.register_module()
class PoseAUC(_PairMetric):
    """Area under the curve of the relative pose's error, and precision by epipolar distance.

    The error of a pair is the larger one of rotation and translation; a pair without a pose counts
    as infinitely wrong. State the image size with every figure.

    Args:
        thresholds (Sequence[float]): Degrees.
        epipolar_threshold (float): Largest squared symmetric epipolar distance of a right match, in
            normalised coordinates: 5e-4 for ScanNet, 1e-4 for MegaDepth.
        ransac_threshold (float): Pixels.
        estimator (str): See :func:`~mmeffvit.matching.estimation.estimate_pose`.
        collect_device (str): See mmengine's ``BaseMetric``.
        prefix (str, optional): See mmengine's ``BaseMetric``.

    Source: section 4 of the LoFTR paper.
    """

    default_prefix = 'pose'

    def __init__(
        self,
        thresholds: Sequence[float] = (5, 10, 20),
        epipolar_threshold: float = 5e-4,
        ransac_threshold: float = 0.5,
        estimator: str = 'opencv',
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.thresholds = tuple(thresholds)
        self.epipolar_threshold = epipolar_threshold
        self.ransac_threshold = ransac_threshold
        self.estimator = estimator

    def evaluate_pair(self, sample: dict) -> dict[str, float]:
        """Pose error, share of right matches, and number of matches of one pair."""
        points0, points1 = most_confident(sample, None)
        K0, K1, pose = (sample[key].cpu() for key in ('intrinsics0', 'intrinsics1', 'pose'))
        found = estimate_pose(
            points0.numpy(),
            points1.numpy(),
            K0.numpy(),
            K1.numpy(),
            self.ransac_threshold,
            estimator=self.estimator,
        )
        error = float('inf') if found is None else max(pose_errors(*found[:2], pose.numpy()))
        distance = symmetric_epipolar_distance(points0, points1, essential_of(pose), K0, K1)
        right = (distance < self.epipolar_threshold).float()
        return dict(
            error=error,
            precision=right.mean().item() if len(right) else 0.0,
            matches=float(len(points0)),
        )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Areas over all pairs; means of the rest."""
        areas = error_auc([r['error'] for r in results], self.thresholds)
        found = {f'auc@{threshold:g}': area for threshold, area in zip(self.thresholds, areas)}
        for name in ('precision', 'matches'):
            found[name] = float(np.mean([r[name] for r in results]))
        return found


@METRICS.register_module()
class HomographyAUC(_PairMetric):
    """Area under the curve of the corner error of the estimated homography.

    Pixels are those of the network's images, as in LoFTR's evaluation on HPatches; figures in
    original pixels, or with another estimator, are not comparable.

    Args:
        thresholds (Sequence[float]): Pixels.
        max_matches (int, optional): The most confident matches that are used.
        ransac_threshold (float): Pixels.
        collect_device (str): See mmengine's ``BaseMetric``.
        prefix (str, optional): See mmengine's ``BaseMetric``.
    """

    default_prefix = 'homography'

    def __init__(
        self,
        thresholds: Sequence[float] = (3, 5, 10),
        max_matches: int | None = 1000,
        ransac_threshold: float = 3.0,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.thresholds = tuple(thresholds)
        self.max_matches = max_matches
        self.ransac_threshold = ransac_threshold

    def evaluate_pair(self, sample: dict) -> dict[str, float]:
        """Corner error of one pair."""
        points0, points1, true = in_network_pixels(sample, self.max_matches)
        found = estimate_homography(points0.numpy(), points1.numpy(), self.ransac_threshold)
        return dict(error=corner_error(found, true.numpy(), sample['size0']))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Areas over all pairs."""
        areas = error_auc([r['error'] for r in results], self.thresholds)
        return {f'auc@{threshold:g}': area for threshold, area in zip(self.thresholds, areas)}


@METRICS.register_module()
class MatchPrecision(_PairMetric):
    """Mean matching accuracy: share of matches within so many pixels of where the truth puts them.

    Pixels are those of the network's images. A pair without matches counts as 0. Beside it the
    number of matches, and recall: matches within ``recall_threshold`` over true pairs of cells.

    Args:
        thresholds (Sequence[float]): Pixels.
        recall_threshold (float): Pixels.
        max_matches (int, optional): The most confident matches that are used.
        collect_device (str): See mmengine's ``BaseMetric``.
        prefix (str, optional): See mmengine's ``BaseMetric``.
    """

    default_prefix = 'match'

    def __init__(
        self,
        thresholds: Sequence[float] = (1, 3, 5, 10),
        recall_threshold: float = 3.0,
        max_matches: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.thresholds = tuple(thresholds)
        self.recall_threshold = recall_threshold
        self.max_matches = max_matches

    def evaluate_pair(self, sample: dict) -> dict[str, float]:
        """Shares, number of matches and recall of one pair."""
        points0, points1, true = in_network_pixels(sample, self.max_matches)
        distance = (warp_by_homography(points0, true) - points1).norm(dim=1)
        found = {
            f'mma@{threshold:g}': (distance < threshold).float().mean().item()
            if len(distance)
            else 0.0
            for threshold in self.thresholds
        }
        grid0, grid1 = (tuple(-(-side // CELL) for side in sample[f'size{i}']) for i in (0, 1))
        plain = PairSample()
        plain.homography = true
        cells = len(supervise([plain], grid0, grid1, CELL).matches.pair)
        right = (distance < self.recall_threshold).sum().item()
        return {**found, 'matches': float(len(distance)), 'recall': right / max(1, cells)}

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Averages over pairs."""
        return {name: float(np.mean([r[name] for r in results])) for name in results[0]}


def in_network_pixels(
    sample: dict, max_matches: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points of both images and the homography, in pixels of the network's images."""
    points = most_confident(sample, max_matches)
    scales = [torch.tensor(sample.get(f'scale{side}', (1.0, 1.0))) for side in (0, 1)]
    first, second = (torch.diag(torch.cat([scale, torch.ones(1)])) for scale in scales)
    true = torch.linalg.inv(second) @ sample['homography'].cpu().float() @ first
    points0, points1 = (p / scale for p, scale in zip(points, scales))
    return points0, points1, true
