from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS


class BasicBlock(BaseModule):
    """Residual block of two 3x3 convolutions (He et al., CVPR 2016).

    Args:
        in_channels (int): Input channels.
        channels (int): Output channels.
        stride (int): Stride of the first convolution. The shortcut is projected only if it is not
            1, so the channels must agree where it is.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.conv2 = conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                conv1x1(in_channels, channels, stride), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', H', W')``."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out.add_(shortcut), inplace=True)


@MODELS.register_module()
class ResNetFPN(BaseModule):
    """ResNet whose 1/8 map and, through a feature pyramid, 1/2 map describe an image.

    Sides that 8 does not divide are padded with zeros at the bottom and right.

    Args:
        in_channels (int): Channels of the image.
        initial_dims (int): Channels of the stem; must be the first of ``block_dims``.
        block_dims (Sequence[int]): Channels at strides 2, 4 and 8.
        init_cfg (dict, optional): mmengine initialisation.

    Attributes:
        out_channels (tuple[int, int]): Of the coarse and the fine map.
        out_strides (tuple[int, int]): Their strides, 8 and 2.

    Raises:
        ValueError: If the channels do not fit.

    Source: Sun et al., "LoFTR" (CVPR 2021), section 3.1.
    """

    out_strides = (8, 2)

    def __init__(
        self,
        in_channels: int = 1,
        initial_dims: int = 128,
        block_dims: Sequence[int] = (128, 196, 256),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(block_dims) != 3 or initial_dims != block_dims[0]:
            raise ValueError(
                f'block_dims={tuple(block_dims)} must be three numbers, the first of them '
                f'initial_dims={initial_dims}.'
            )
        half, quarter, eighth = block_dims
        self.out_channels = (eighth, half)
        self.conv1 = nn.Conv2d(in_channels, initial_dims, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(initial_dims)
        self.layer1 = _stage(initial_dims, half, 1)
        self.layer2 = _stage(half, quarter, 2)
        self.layer3 = _stage(quarter, eighth, 2)
        self.layer3_outconv = conv1x1(eighth, eighth)
        self.layer2_outconv = conv1x1(quarter, eighth)
        self.layer2_outconv2 = _smoothing(eighth, quarter)
        self.layer1_outconv = conv1x1(half, quarter)
        self.layer1_outconv2 = _smoothing(quarter, half)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Describe images.

        Args:
            images (Tensor): ``(B, in_channels, H, W)`` in [0, 1].

        Returns:
            tuple: The coarse map ``(B, C, ceil(H / 8), ceil(W / 8))`` and the fine one at four
            times its size.
        """
        images = pad_to_multiple(images, self.out_strides[0])
        half = self.layer1(F.relu(self.bn1(self.conv1(images)), inplace=True))
        quarter = self.layer2(half)
        coarse = self.layer3_outconv(self.layer3(quarter))
        middle = self.layer2_outconv(quarter).add_(_double(coarse))
        del quarter
        middle = self.layer2_outconv2(middle)
        fine = self.layer1_outconv(half).add_(_double(middle))
        del half, middle
        return coarse, self.layer1_outconv2(fine)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad ``(..., H, W)`` with zeros at the bottom and right to multiples."""
    bottom, right = (-side % multiple for side in x.shape[-2:])
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def conv1x1(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, channels, 1, stride, bias=False)


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution with padding and without bias."""
    return nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)


def _stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels))


def _smoothing(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(in_channels, in_channels),
        nn.BatchNorm2d(in_channels),
        nn.LeakyReLU(inplace=True),
        conv3x3(in_channels, channels),
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=True)
