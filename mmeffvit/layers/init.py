"""Initialisation of linear layers and convolutions."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn

Conv = TypeVar('Conv', bound=nn.Conv2d | nn.Conv3d)


def init_linear(linear: nn.Linear, std: float = 0.02) -> nn.Linear:
    """Initialise a linear layer as ViTs do: truncated normal weight, zero bias."""
    nn.init.trunc_normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def init_conv(conv: Conv) -> Conv:
    """Initialise a convolution as PVT does: normal weight by fan-out per group, zero bias."""
    fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def make_depthwise_conv(embed_dims: int, kernel_size: int = 3) -> nn.Conv2d:
    """Build a depthwise convolution with zero padding and bias, initialised as in PVT."""
    return init_conv(
        nn.Conv2d(embed_dims, embed_dims, kernel_size, padding=kernel_size // 2, groups=embed_dims)
    )
