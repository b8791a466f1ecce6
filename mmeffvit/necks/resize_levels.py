from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class ResizeLevels(BaseModule):
    """Give a one-map head (DeepLabv3, PSPNet) its map at a finer resolution than the backbone's.

    The chosen levels are resized, bilinearly, and concatenated; the result is appended to the
    inputs, so that an auxiliary head still finds its level.

    Args:
        levels (Sequence[int]): Levels to take; several are concatenated on channels.
        scale_factor (float): Sides of the result over those of the first of ``levels``.

    Example:
        With a last level at stride 32: the default is that level at stride 8, ``scale_factor=1``
        that level as it is; with levels at strides 8, 16, 32, ``levels=(0, 1, 2)`` and
        ``scale_factor=1`` is all of them at stride 8.
    """

    def __init__(self, levels: Sequence[int] = (-1,), scale_factor: float = 4) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.scale_factor = scale_factor

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the maps ``(B, C_i, H_i, W_i)`` and, last, the resized one."""
        maps = [inputs[level] for level in self.levels]
        size = tuple(round(side * self.scale_factor) for side in maps[0].shape[2:])
        maps = [
            x
            if x.shape[2:] == size
            else F.interpolate(x, size=size, mode='bilinear', align_corners=False)
            for x in maps
        ]
        return (*inputs, maps[0] if len(maps) == 1 else torch.cat(maps, dim=1))
