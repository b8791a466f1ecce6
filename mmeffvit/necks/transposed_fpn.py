from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class TransposedFPN(BaseModule):
    """FPN with extra finer levels from transposed convolutions.

    For example the stride-4 level of Mask R-CNN on a backbone whose first output has stride 8. The
    merged lateral of the finest input is upsampled by a 2x2 transposed convolution and passes a 3x3
    convolution; the rest is FPN (Lin et al., 2017). Parameters have the names of mmdet's ``FPN``
    and of LightViT's detection code, so checkpoints of both load.

    Args:
        in_channels (Sequence[int]): Channels of each input, finest first.
        out_channels (int): Channels of every output.
        num_outs (int): Number of outputs: extra levels, one per input, then max-pooled levels.
        num_extra_levels (int): Finer levels; 0 is plain FPN.
        init_cfg (dict | list, optional): mmengine initialisation; by default Xavier uniform for
            convolutions, Kaiming normal for transposed ones.

    Raises:
        ValueError: If ``num_outs`` is smaller than the number of inputs and extra levels.

    Source: LightViT (arXiv 2207.05557), its detection code.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_outs: int = 5,
        num_extra_levels: int = 1,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            init_cfg
            or [
                dict(type='Xavier', layer='Conv2d', distribution='uniform'),
                dict(type='Kaiming', layer='ConvTranspose2d'),
            ]
        )
        num_own = len(in_channels) + num_extra_levels
        if num_outs < num_own:
            raise ValueError(
                f'num_outs={num_outs} must be at least {num_own}: '
                f'{len(in_channels)} inputs and {num_extra_levels} extra levels.'
            )
        self.num_pooled = num_outs - num_own
        self.lateral_convs = nn.ModuleList(
            _named(nn.Conv2d(channels, out_channels, 1)) for channels in in_channels
        )
        self.fpn_convs = nn.ModuleList(
            _named(nn.Conv2d(out_channels, out_channels, 3, padding=1)) for _ in in_channels
        )
        if num_extra_levels:
            self.extra_trans_convs = nn.ModuleList(
                _named(nn.ConvTranspose2d(out_channels, out_channels, 2, stride=2))
                for _ in range(num_extra_levels)
            )
            self.extra_fpn_convs = nn.ModuleList(
                _named(nn.Conv2d(out_channels, out_channels, 3, padding=1))
                for _ in range(num_extra_levels)
            )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C_i, H_i, W_i)``, finest first.

        Returns:
            tuple[Tensor]: ``num_outs`` maps ``(B, out_channels, H_i, W_i)``, finest first.
        """
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, inputs)]
        for finer, coarser in zip(
            range(len(laterals) - 2, -1, -1), range(len(laterals) - 1, 0, -1)
        ):
            size = laterals[finer].shape[2:]
            laterals[finer] = laterals[finer] + F.interpolate(laterals[coarser], size=size)
        outs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals)]
        if hasattr(self, 'extra_trans_convs'):
            finest = laterals[0]
            for upsample, conv in zip(self.extra_trans_convs, self.extra_fpn_convs):
                finest = upsample(finest)
                outs.insert(0, conv(finest))
        for _ in range(self.num_pooled):
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)


def _named(conv: nn.Module) -> nn.Sequential:
    """Register a layer under the name ``conv``, as mmcv's ``ConvModule`` does."""
    return nn.Sequential(OrderedDict(conv=conv))
