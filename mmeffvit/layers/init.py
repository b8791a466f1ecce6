"""Initialisers that several layers share."""

from __future__ import annotations

import math

from torch import nn


def init_linear(linear: nn.Linear, std: float = 0.02) -> nn.Linear:
    """Truncated normal weight, zero bias: the ViT family's rule."""
    nn.init.trunc_normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def init_conv(conv: nn.Conv2d) -> nn.Conv2d:
    """Normal weight with the variance of fan-out per group, zero bias: PVT's rule."""
    fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def depthwise_conv(embed_dims: int, kernel_size: int = 3) -> nn.Conv2d:
    """Depthwise convolution with zero padding and bias, initialised by PVT's rule."""
    return init_conv(
        nn.Conv2d(embed_dims, embed_dims, kernel_size, padding=kernel_size // 2, groups=embed_dims)
    )
