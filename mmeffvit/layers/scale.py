from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """A learned scale per channel on a residual branch (Touvron et al., "CaiT", section 2.2).

    Args:
        embed_dims (int): Channels.
        value (float): Initial value of all scales.
    """

    def __init__(self, embed_dims: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((embed_dims,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Scale tokens ``(B, N, C)``."""
        return x * self.weight


def build_layer_scale(embed_dims: int, value: float | None) -> nn.Module:
    """A :class:`LayerScale`, or nothing where ``value`` is None."""
    return nn.Identity() if value is None else LayerScale(embed_dims, value)
