from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ..networks.regression import StereoOutput, sampled, true_response

#: Added to probabilities before their logarithm.
LOG_EPS = 1e-6
NAMES = ('response', 'raw_disparity', 'disparity', 'occlusion')


@MODELS.register_module()
class StereoLoss(nn.Module):
    """STTR's four losses.

    The relative response of true matches and of the bins of occluded pixels; smooth L1 of the
    disparity at the tokens and at all pixels; binary entropy of the occlusion. Pixels whose true
    disparity is not positive count as occluded or not at all.

    Args:
        weights (Sequence[float]): Of response, disparity at the tokens, disparity, occlusion.

    Raises:
        ValueError: If there are not four weights.

    Source: section 3.5 of the STTR paper.
    """

    def __init__(self, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        super().__init__()
        if len(weights) != len(NAMES):
            raise ValueError(f'weights={tuple(weights)} must be four, of {", ".join(NAMES)}.')
        self.weights = tuple(weights)

    def forward(
        self,
        out: StereoOutput,
        disparity: Tensor,
        occluded: Tensor,
        occluded_right: Tensor,
        stride: int,
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            out (StereoOutput): Predictions.
            disparity (Tensor): True disparity ``(B, H, W)``; not positive where it is not known.
            occluded (Tensor): Boolean ``(B, H, W)``, occluded pixels of the left image.
            occluded_right (Tensor): The same of the right image.
            stride (int): Pixels between tokens.

        Returns:
            dict: ``loss_response``, ``loss_raw_disparity``, ``loss_disparity``,
            ``loss_occlusion``; each zero where nothing is known.
        """
        H, W = disparity.shape[-2:]
        valid = disparity > 0
        at_tokens = (..., sampled(H, stride), sampled(W, stride))
        low_valid = valid[at_tokens]
        responses = torch.cat(
            [
                true_response(out.assignment, disparity, stride)[low_valid],
                out.assignment[..., :-1, -1][occluded[at_tokens]],
                out.assignment[..., -1, :-1][occluded_right[at_tokens]],
            ]
        )
        occlusion = torch.cat([out.occlusion[occluded], 1 - out.occlusion[valid]])
        losses = (
            _mean(-(responses + LOG_EPS).log()),
            _smooth_l1(out.raw_disparity[low_valid], disparity[at_tokens][low_valid]),
            _smooth_l1(out.disparity[valid], disparity[valid]),
            _mean(-(occlusion + LOG_EPS).log()),
        )
        return {
            f'loss_{name}': weight * loss for name, weight, loss in zip(NAMES, self.weights, losses)
        }


def _mean(values: Tensor) -> Tensor:
    """Mean, zero of no values."""
    return values.sum() / max(1, values.numel())


def _smooth_l1(found: Tensor, true: Tensor) -> Tensor:
    return F.smooth_l1_loss(found, true, reduction='sum') / max(1, found.numel())
