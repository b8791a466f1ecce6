"""Fixed position tables of sines and cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .layout import Grid

#: Longest wavelength over the shortest.
BASE = 10000.0


def sine_positions(positions: Tensor, channels: int) -> Tensor:
    """Encode positions along a line: channels ``2i`` and ``2i + 1`` are sine and cosine.

    Args:
        positions (Tensor): ``(...)``.
        channels (int): Width C, even.

    Returns:
        Tensor: ``(..., C)``; the wavelengths are ``2 pi 10000 ** (2i / C)``.
    """
    even = torch.arange(0, channels, 2, device=positions.device, dtype=positions.dtype)
    angles = positions.unsqueeze(-1) / BASE ** (even / channels)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def sine_position_table(grid: Grid, like: Tensor, historical: bool = False) -> Tensor:
    """Position table of a grid, as LoFTR adds it to its coarse maps.

    Cells are counted from 1; channels ``4i .. 4i + 3`` are the sine and cosine of x and of y times
    ``10000 ** (-4i / C)``.

    Args:
        grid (tuple[int, int]): ``(H, W)``.
        like (Tensor): Tokens ``(..., C)``, for width, type and device.
        historical (bool): The frequencies ``exp(-2i)`` of LoFTR's first released weights.

    Returns:
        Tensor: ``(1, H*W, C)``.

    Source: Sun et al., "LoFTR" (CVPR 2021), section 3.2.
    """
    channels = like.shape[-1]
    index = torch.arange(0, channels // 2, 2, device=like.device, dtype=torch.float32)
    rate = -1.0 if historical else -math.log(BASE) / (channels // 2)
    frequencies = (index * rate).exp()
    y, x = (
        torch.arange(1, side + 1, device=like.device, dtype=torch.float32).unsqueeze(-1)
        * frequencies
        for side in grid
    )
    H, W = grid
    waves = [x.sin(), x.cos(), y.sin(), y.cos()]
    waves = [
        wave.unsqueeze(0).expand(H, -1, -1) if axis == 'x' else wave.unsqueeze(1).expand(-1, W, -1)
        for wave, axis in zip(waves, 'xxyy')
    ]
    return torch.stack(waves, -1).flatten(2).flatten(0, 1).unsqueeze(0).to(like.dtype)
