from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Learned scale per channel of a residual branch (Touvron et al., "CaiT", section 2.2).

    Args:
        embed_dims (int): Width C of the tokens.
        value (float): Initial value of all scales.
    """

    def __init__(self, embed_dims: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((embed_dims,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply tokens ``(B, N, C)`` by the scales."""
        return x * self.weight


def build_layer_scale(embed_dims: int, value: float | None) -> nn.Module:
    """Build a :class:`LayerScale`, or an identity if ``value`` is None."""
    return nn.Identity() if value is None else LayerScale(embed_dims, value)
