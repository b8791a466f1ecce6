from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class ResizeLevels(BaseModule):
    """Give a one-map head (DeepLabv3, PSPNet) its map at another level's resolution.

    The chosen levels are resized, bilinearly, to the size of one level and concatenated; the result
    is appended to the inputs, so that an auxiliary head still finds its level.

    Args:
        levels (Sequence[int]): Levels to take; several are concatenated on channels.
        size_of (int): The level whose size the result has.

    Example:
        With three stages of strides 8, 16, 32: the default is stage 3 at stride 8;
        ``levels=(-1,), size_of=-1`` stage 3 as it is; ``levels=(0, 1, 2)`` all, at stride 8.
    """

    def __init__(self, levels: Sequence[int] = (-1,), size_of: int = 0) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.size_of = size_of

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the maps ``(B, C_i, H_i, W_i)`` and, last, the resized one."""
        size = inputs[self.size_of].shape[2:]
        maps = [inputs[level] for level in self.levels]
        maps = [
            x
            if x.shape[2:] == size
            else F.interpolate(x, size=size, mode='bilinear', align_corners=False)
            for x in maps
        ]
        return (*inputs, maps[0] if len(maps) == 1 else torch.cat(maps, dim=1))
