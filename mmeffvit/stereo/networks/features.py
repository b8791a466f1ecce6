"""Features of both images of a pair, at the resolution of the images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS


class PairBatchNorm(nn.Module):
    """Batch norm by the statistics of the pair at hand, in training and inference.

    The first half of the batch holds left images, the second half their right ones. As STTR's norms
    use the current batch at all times, its results depend on what else is in it; here each pair has
    its own statistics, which equals STTR for batches of one pair.

    Args:
        channels (int): Channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(2 B, C, H, W)``."""
        pairs, channels = x.shape[0] // 2, x.shape[1]
        grouped = x.reshape(2, pairs * channels, *x.shape[2:])
        weight, bias = (p.repeat(pairs) for p in (self.weight, self.bias))
        # Small maps of one pixel a side still have two values per channel.
        return F.batch_norm(grouped, None, None, weight, bias, training=True).view_as(x)


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions.

    Args:
        in_channels (int): Input channels.
        channels (int): Output channels.
        stride (int): Stride of the first convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = PairBatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = PairBatchNorm(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), PairBatchNorm(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(2 B, C, H, W)`` to ``(2 B, C', H', W')``."""
        out = F.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(out)) + shortcut)


class PyramidExtractor(nn.Module):
    """STTR's feature extractor: maps at 1/4, 1/8 and, pooled at four sizes, 1/16."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, channels, stride in ((3, 16, 2), (16, 16, 1), (16, 32, 1)):
            layers += [
                nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
                PairBatchNorm(channels),
                nn.ReLU(),
            ]
        self.in_conv = nn.Sequential(*layers)
        self.resblock_1, self.resblock_2 = (
            nn.Sequential(
                BasicBlock(in_channels, channels, 2),
                BasicBlock(channels, channels),
                BasicBlock(channels, channels),
            )
            for in_channels, channels in ((32, 64), (64, 128))
        )
        self.branch1, self.branch2, self.branch3, self.branch4 = (
            nn.Sequential(
                ClampedPool(size), nn.Conv2d(128, 32, 1, bias=False), PairBatchNorm(32), nn.ReLU()
            )
            for size in (16, 8, 4, 2)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """The images, and their maps at 1/4 (64 channels), 1/8 and 1/16 (128 channels)."""
        quarter = self.resblock_1(self.in_conv(images))
        eighth = self.resblock_2(quarter)
        size = [-(-side // 16) for side in images.shape[-2:]]
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        pooled = [
            F.interpolate(branch(eighth), size=size, mode='bilinear', align_corners=False)
            for branch in branches
        ]
        return [images, quarter, eighth, torch.cat(pooled, 1)]


class ClampedPool(nn.Module):
    """Average pooling whose cells are not larger than the map; STTR refuses smaller maps.

    Args:
        size (int): Side of a cell.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``(B, C, H, W)``."""
        return F.avg_pool2d(x, [min(self.size, side) for side in x.shape[-2:]])


class DenseLayer(nn.Module):
    """Layer of a dense block: norm, ReLU, 1x1 to four times the growth, norm, ReLU, 3x3.

    Args:
        in_channels (int): Input channels.
        growth (int): Channels that it adds.
    """

    def __init__(self, in_channels: int, growth: int = 4) -> None:
        super().__init__()
        self.norm1 = PairBatchNorm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.norm2 = PairBatchNorm(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(2 B, C, H, W)`` to the new channels."""
        return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class DenseBlock(nn.Module):
    """Four dense layers, of which only the new channels are kept.

    Args:
        in_channels (int): Input channels.

    Source: Huang et al., "Densely Connected Convolutional Networks" (CVPR 2017).
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        for index in range(4):
            self.add_module(f'denselayer{index + 1}', DenseLayer(in_channels + 4 * index))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(2 B, C, H, W)`` to 16 channels."""
        start = x.shape[1]
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x[:, start:]


class Up(nn.Module):
    """Transposed convolution by two, cropped to the skip and concatenated with it.

    Args:
        channels (int): Channels of the map.
        out_channels (int, optional): If given, a second transposed convolution brings the map to
            these channels and the resolution of the image.
    """

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        if out_channels is None:
            self.convTrans = nn.ConvTranspose2d(channels, channels, 3, 2)
        else:
            self.convTrans = nn.Sequential(
                nn.ConvTranspose2d(channels, out_channels, 3, 2, bias=False),
                PairBatchNorm(out_channels),
                nn.ConvTranspose2d(out_channels, out_channels, 3, 2),
            )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Enlarge ``x`` to the size of ``skip``."""
        x = self.convTrans(x)
        H, W = skip.shape[-2:]
        top, left = (x.shape[-2] - H) // 2, (x.shape[-1] - W) // 2
        return torch.cat([x[..., top : top + H, left : left + W], skip], 1)


class DoubleConv(nn.Module):
    """Two 3x3 convolutions with norm and ReLU.

    Args:
        in_channels (int): Input channels.
        channels (int): Output channels.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            PairBatchNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            PairBatchNorm(channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(2 B, C, H, W)``."""
        return self.double_conv(x)


class Tokenizer(nn.Module):
    """STTR's tokenizer: dense blocks from 1/16 up to a feature vector for every pixel.

    Args:
        out_channels (int): Channels of the result.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.bottle_neck = DenseBlock(128)
        self.up = nn.ModuleList([Up(16), Up(16), Up(16, out_channels)])
        self.dense_block = nn.ModuleList(
            [DenseBlock(16 + 128), DenseBlock(16 + 64), DoubleConv(out_channels + 3, out_channels)]
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map the extractor's results to ``(2 B, C, H, W)``."""
        images, quarter, eighth, sixteenth = maps
        x = self.bottle_neck(sixteenth)
        for up, block, skip in zip(self.up, self.dense_block, (eighth, quarter, images)):
            x = block(up(x, skip))
        return x


@MODELS.register_module()
class STTRFeatures(BaseModule):
    """STTR's feature extractor and tokenizer.

    Args:
        embed_dims (int): Channels of the result.
        init_cfg (dict, optional): mmengine initialisation.

    Source: sections 3.1 and A of the STTR paper, and its public code.
    """

    def __init__(self, embed_dims: int = 128, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims
        self.extractor = PyramidExtractor()
        self.tokenizer = Tokenizer(embed_dims)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, images: Tensor) -> Tensor:
        """Describe every pixel.

        Args:
            images (Tensor): ``(2 B, 3, H, W)``: left images, then right ones.

        Returns:
            Tensor: ``(2 B, C, H, W)``.
        """
        return self.tokenizer(self.extractor(images))


@MODELS.register_module()
class UNetFeatures(BaseModule):
    """Small U-Net with GroupNorm, for small images and budgets.

    Args:
        embed_dims (int): Channels of the result.
        widths (tuple[int, ...]): Channels at full resolution, 1/2, 1/4 and so on.
        init_cfg (dict, optional): mmengine initialisation.
    """

    def __init__(
        self,
        embed_dims: int = 32,
        widths: tuple[int, ...] = (16, 32, 48),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims
        self.downs = nn.ModuleList(
            _conv_norms(in_channels, channels, 1 if level == 0 else 2)
            for level, (in_channels, channels) in enumerate(zip((3, *widths[:-1]), widths))
        )
        self.ups = nn.ModuleList(
            _conv_norms(low + high, high, 1) for high, low in zip(widths[-2::-1], widths[::-1])
        )
        self.out = nn.Conv2d(widths[0], embed_dims, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(2 B, 3, H, W)`` to ``(2 B, C, H, W)``."""
        skips = []
        x = images
        for down in self.downs:
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.ups, skips[-2::-1]):
            x = F.interpolate(x, size=skip.shape[-2:], mode='bilinear', align_corners=False)
            x = up(torch.cat([x, skip], 1))
        return self.out(x)


def _conv_norms(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for c, s in ((in_channels, stride), (channels, 1)):
        layers += [
            nn.Conv2d(c, channels, 3, s, 1, bias=False),
            nn.GroupNorm(max(1, channels // 8), channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
