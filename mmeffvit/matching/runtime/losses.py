from __future__ import annotations

import torch
from torch import Tensor, nn

from ...registry import MODELS
from ..networks.coarse import CellMatches

COARSE = ('focal', 'cross_entropy')
FINE = ('l2_with_std', 'l2')
#: Confidences are clamped to this distance from 0 and 1.
CONFIDENCE_EPS = 1e-6


@MODELS.register_module()
class CoarseMatchingLoss(nn.Module):
    """Loss of the confidence of all pairs of cells.

    The means over true pairs and over all other pairs are added.

    Args:
        kind (str): ``'focal'`` or ``'cross_entropy'``.
        sparse (bool): Leave out the pairs that are not true; where the matching has bins, cells
            without partner are to be in the bin.
        alpha (float): Weight of the focal loss.
        gamma (float): Its exponent.
        loss_weight (float): Factor.

    Raises:
        ValueError: If ``kind`` is none of these.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), as in LoFTR's code.
    """

    def __init__(
        self,
        kind: str = 'focal',
        sparse: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in COARSE:
            raise ValueError(f'kind={kind!r} must be one of {COARSE}.')
        self.kind = kind
        self.sparse = sparse
        self.alpha = alpha
        self.gamma = gamma
        self.loss_weight = loss_weight

    def forward(
        self,
        confidence: Tensor,
        true: CellMatches,
        weight: Tensor | None = None,
        assignment: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            confidence (Tensor): ``(B, N, M)``.
            true (CellMatches): True pairs.
            weight (Tensor, optional): ``(B, N, M)``, 0 for pairs with a cell outside of its image;
                they count in the means.
            assignment (Tensor, optional): Confidence with bins ``(B, N + 1, M + 1)``, for the
                sparse loss.

        Returns:
            Tensor: A scalar. Without true pairs their part is zero.
        """
        place = true.pair, true.cell0, true.cell1
        positive = self._cost(confidence[place])
        if weight is not None:
            positive = positive * weight[place]
        loss = _mean(positive)
        if self.sparse and assignment is not None:
            loss = loss + self._bins(assignment, true)
        elif not self.sparse:
            is_true = torch.zeros_like(confidence, dtype=torch.bool)
            is_true[place] = True
            # 1 - p is clamped as p is, so that rounding near 1 does no harm.
            negative = self._cost(1 - confidence)
            if weight is not None:
                negative = negative * weight
            count = (confidence.numel() - is_true.sum()).clamp(min=1)
            loss = loss + negative.masked_fill(is_true, 0).sum() / count
        return self.loss_weight * loss

    def _cost(self, right: Tensor) -> Tensor:
        """Cost of the probability that was given to what is right."""
        right = right.clamp(CONFIDENCE_EPS, 1 - CONFIDENCE_EPS)
        cost = -right.log()
        return (
            cost if self.kind == 'cross_entropy' else self.alpha * (1 - right) ** self.gamma * cost
        )

    def _bins(self, assignment: Tensor, true: CellMatches) -> Tensor:
        rows = torch.ones_like(assignment[:, :-1, -1], dtype=torch.bool)
        columns = torch.ones_like(assignment[:, -1, :-1], dtype=torch.bool)
        rows[true.pair, true.cell0] = False
        columns[true.pair, true.cell1] = False
        return _mean(
            self._cost(torch.cat([assignment[:, :-1, -1][rows], assignment[:, -1, :-1][columns]]))
        )


@MODELS.register_module()
class FineMatchingLoss(nn.Module):
    """Squared distance of the refined from the true position, in half windows.

    Args:
        kind (str): ``'l2_with_std'`` weighs each match by the inverse of its deviation, over the
            mean of these, without a gradient; ``'l2'`` does not.
        reach (float): Only matches whose true offset is below this count.
        loss_weight (float): Factor.

    Raises:
        ValueError: If ``kind`` is none of these.

    Source: Sun et al., "LoFTR" (CVPR 2021), section 3.5.
    """

    def __init__(
        self, kind: str = 'l2_with_std', reach: float = 1.0, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if kind not in FINE:
            raise ValueError(f'kind={kind!r} must be one of {FINE}.')
        self.kind = kind
        self.reach = reach
        self.loss_weight = loss_weight

    def forward(self, expectation: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            expectation (Tensor): ``(M, 3)``, offset and deviation.
            target (Tensor): ``(M, 2)``, true offset.

        Returns:
            Tensor: A scalar; zero, with a gradient of zero, if no match counts.
        """
        near = target.abs().amax(1) < self.reach
        distance = (expectation[:, :2] - target).square().sum(1)
        if self.kind == 'l2_with_std':
            inverse = 1 / expectation[:, 2].detach().clamp(min=1e-10)
            distance = distance * (inverse / inverse.mean())
        return self.loss_weight * _mean(distance[near])


def _mean(values: Tensor) -> Tensor:
    """Mean, zero of no values."""
    return values.sum() / max(1, values.numel())
