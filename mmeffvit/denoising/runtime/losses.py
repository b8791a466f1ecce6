from __future__ import annotations

import torch
from torch import Tensor, nn

from ...registry import MODELS


@MODELS.register_module()
class CharbonnierLoss(nn.Module):
    """Mean of ``sqrt(difference ** 2 + eps ** 2)``, an L1 loss that is smooth at zero.

    Args:
        eps (float): Width of the smooth part, in units of the image's range.

    Source: Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for
    computed imaging" (ICIP 1994); Uformer (Wang et al., CVPR 2022), section 4.1.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors of one shape, in float32 or wider."""
        difference = prediction.to(torch.promote_types(prediction.dtype, torch.float32)) - target
        return (difference.square() + self.eps**2).sqrt().mean()
