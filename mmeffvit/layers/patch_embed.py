from __future__ import annotations

from torch import Tensor, nn

from ..ops import map_to_tokens
from ..ops.layout import Grid
from .init import init_conv


class PatchEmbed(nn.Module):
    """Turn a map into tokens of a coarser grid: strided convolution, then LayerNorm.

    Sides that are not multiples of the stride are rounded up: overlapping patches by their own
    padding, others by zeros at the bottom and right.

    Args:
        in_channels (int): Channels of the map.
        embed_dims (int): Width of the tokens.
        patch_size (int): Kernel size.
        stride (int): Stride in pixels.
        overlap (bool): Pad by ``patch_size // 2`` on all sides (PVTv2, Wang et al. 2022).
        norm (bool): Whether a LayerNorm (eps 1e-5) follows.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int,
        stride: int,
        overlap: bool = False,
        norm: bool = True,
    ) -> None:
        super().__init__()
        padding = patch_size // 2 if overlap else 0
        self.proj = init_conv(nn.Conv2d(in_channels, embed_dims, patch_size, stride, padding))
        self.norm = nn.LayerNorm(embed_dims) if norm else nn.Identity()
        self.overlap = overlap

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Embed.

        Args:
            x (Tensor): ``(B, in_channels, H, W)``.

        Returns:
            tuple: Tokens ``(B, H' * W', embed_dims)`` and the grid ``(H', W')``.
        """
        if not self.overlap:
            stride = self.proj.stride[0]
            bottom, right = -x.shape[2] % stride, -x.shape[3] % stride
            if bottom or right:
                x = nn.functional.pad(x, (0, right, 0, bottom))
        x = self.proj(x)
        return self.norm(map_to_tokens(x)), (x.shape[2], x.shape[3])
