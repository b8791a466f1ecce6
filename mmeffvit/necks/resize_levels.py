from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class ResizeLevels(BaseModule):
    """Resize and concatenate levels for a head that takes one map, such as DeepLabv3 or PSPNet.

    The levels are resized bilinearly. The result is appended to the inputs, so that the indices of
    an auxiliary head stay valid.

    Args:
        levels (Sequence[int]): Indices of the levels, concatenated over channels.
        scale_factor (float): Sides of the result over those of the first of ``levels``.

    Example:
        With a last level at stride 32 the default returns that level at stride 8, and
        ``scale_factor=1`` returns it unchanged. With levels at strides 8, 16 and 32,
        ``levels=(0, 1, 2), scale_factor=1`` returns all three at stride 8.
    """

    def __init__(self, levels: Sequence[int] = (-1,), scale_factor: float = 4) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.scale_factor = scale_factor

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Append the resized map.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C_i, H_i, W_i)``.

        Returns:
            tuple[Tensor]: The inputs, then ``(B, sum of C_i, H', W')``.
        """
        maps = [inputs[level] for level in self.levels]
        size = tuple(round(side * self.scale_factor) for side in maps[0].shape[2:])
        maps = [
            x
            if x.shape[2:] == size
            else F.interpolate(x, size=size, mode='bilinear', align_corners=False)
            for x in maps
        ]
        return (*inputs, maps[0] if len(maps) == 1 else torch.cat(maps, dim=1))
