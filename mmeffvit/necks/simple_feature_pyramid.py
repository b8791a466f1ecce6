from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS

SCALES = (4, 2, 1, 0.5)
EXTRA_LEVELS = ('pool', 'conv')


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Simple feature pyramid from the last map of a plain backbone (ViTDet).

    Scale 4 is two transposed 2x2 convolutions with LayerNorm and GELU between them, scale 2 is one,
    scale 1/2 is max pooling. A 1x1 and a 3x3 convolution, each with LayerNorm, follow on every
    level. Pooling rounds odd sides up (our choice, for maps of any size).

    Args:
        in_channels (int): Channels of the map.
        out_channels (int): Channels of every level.
        scales (Sequence[float]): Sides of the levels over those of the map, finest first, each one
            of 4, 2, 1, 0.5. A map of stride 16 gives strides 4, 8, 16, 32.
        num_outs (int, optional): Number of levels; those beyond ``scales`` halve the last. For
            RetinaNet ``scales=(2, 1, 0.5), num_outs=5, extra_levels='conv'``: strides 8 to 128.
        extra_levels (str): ``'pool'`` takes every second pixel (Mask R-CNN), ``'conv'`` is a
            3x3 convolution of stride 2, after ReLU from the second on (RetinaNet).
        init_cfg (dict, optional): mmengine initialisation.

    Raises:
        ValueError: If an option is not one of the allowed values.

    Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection"
    (ECCV 2022).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = SCALES,
        num_outs: int | None = None,
        extra_levels: str = 'pool',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        num_outs = len(scales) if num_outs is None else num_outs
        if not scales or any(scale not in SCALES for scale in scales):
            raise ValueError(f'scales={tuple(scales)} must be of {SCALES}.')
        if num_outs < len(scales):
            raise ValueError(f'num_outs={num_outs} is less than the {len(scales)} scales.')
        if extra_levels not in EXTRA_LEVELS:
            raise ValueError(f'extra_levels={extra_levels!r} must be one of {EXTRA_LEVELS}.')
        self.levels = nn.ModuleList(
            nn.Sequential(
                *_rescale(in_channels, scale),
                nn.Conv2d(_width(in_channels, scale), out_channels, 1, bias=False),
                ChannelNorm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                ChannelNorm(out_channels),
            )
            for scale in scales
        )
        self.num_outs = num_outs
        num_extra = num_outs - len(scales) if extra_levels == 'conv' else 0
        self.extra_convs = nn.ModuleList(
            nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1) for _ in range(num_extra)
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs (Sequence[Tensor]): A backbone's maps; the last ``(B, C, H, W)`` is used.

        Returns:
            tuple[Tensor]: ``num_outs`` maps ``(B, out_channels, H_i, W_i)``, finest first.
        """
        outs = [level(inputs[-1]) for level in self.levels]
        while len(outs) < self.num_outs:
            if not self.extra_convs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
                continue
            i = len(outs) - len(self.levels)
            outs.append(self.extra_convs[i](F.relu(outs[-1]) if i else outs[-1]))
        return tuple(outs)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map, eps 1e-6.

    Args:
        channels (int): Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map ``(B, C, H, W)`` over its channels."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _width(channels: int, scale: float) -> int:
    return channels // int(scale) if scale > 1 else channels


def _rescale(channels: int, scale: float) -> list[nn.Module]:
    if scale == 4:
        half, quarter = channels // 2, channels // 4
        return [
            nn.ConvTranspose2d(channels, half, 2, stride=2),
            ChannelNorm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        ]
    if scale == 2:
        return [nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)]
    return [nn.MaxPool2d(2, ceil_mode=True)] if scale == 0.5 else []
