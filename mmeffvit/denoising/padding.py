"""Padding of images to multiples of a network's divisor."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.layout import divide_up, same_sizes


def reflect_pad(image: Tensor, bottom: int, right: int) -> Tensor:
    """Pad ``(..., H, W)`` at the bottom and right by reflection, by any amount.

    ``F.pad`` refuses paddings that are not smaller than the image; this one reflects repeatedly.
    """
    for dim, amount in ((-2, bottom), (-1, right)):
        if not same_sizes([amount], [0]):
            side = image.shape[dim]
            # A tensor, as exporters know no remainder by an open number.
            period = torch.full((), max(1, 2 * side - 2), device=image.device)
            place = torch.arange(side + amount, device=image.device) % period
            image = image.index_select(dim, torch.minimum(place, (period - place).abs()))
    return image


def pad_to_multiples(image: Tensor, divisor: int) -> Tensor:
    """Pad ``(..., H, W)`` at the bottom and right to multiples of ``divisor`` by reflection."""
    return reflect_pad(image, *(divide_up(s, divisor) * divisor - s for s in image.shape[-2:]))
