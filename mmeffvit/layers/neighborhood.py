from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import map_to_tokens, neighborhood_attention
from ..ops.layout import Grid
from ..registry import MODELS
from .attention import head_dims_of
from .init import init_linear


@MODELS.register_module()
class NeighborhoodAttention(BaseModule):
    """Neighborhood attention: each query attends to the ``k x k`` pixels nearest to it.

    The windows of pixels near a border are shifted inside the map. A map smaller than the window is
    padded with zero tokens at the bottom and right, which are attended to, as in the authors' code.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        kernel_size (int): Side ``k`` of the window, odd.
        dilation (int): Distance of neighbouring pixels of a window; above 1 it is the layer of
            DiNAT.
        rpb (bool): Whether a relative position bias is added to the logits.

    Raises:
        ValueError: If ``kernel_size`` is even, ``dilation`` is not positive, or ``num_heads`` does
            not divide ``embed_dims``.

    Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023), section 3; Hassani and
    Shi, "Dilated Neighborhood Attention Transformer" (2022).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        kernel_size: int = 7,
        dilation: int = 1,
        rpb: bool = True,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f'kernel_size={kernel_size} must be odd; an even window has no centre.'
            )
        if dilation < 1:
            raise ValueError(f'dilation={dilation} must be at least 1.')
        self.scale = head_dims_of(embed_dims, num_heads) ** -0.5
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))
        self.rpb = None
        if rpb:
            side = 2 * kernel_size - 1
            self.rpb = nn.Parameter(torch.zeros(num_heads, side, side))
            nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Map tokens ``(B, H*W, C)`` on the grid ``(H, W)`` to tokens."""
        out = self.attend(*self.project(x, grid))[:, : grid[0], : grid[1]]
        return self.proj(out.flatten(3).flatten(1, 2))

    def project(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens to scaled queries, keys and values ``(B, H, W, heads, D)``.

        ``H`` and ``W`` are at least the window's, ``kernel_size * dilation``.
        """
        window = self.kernel_size * self.dilation
        missing = [cast(int, torch.sym_max(window - side, 0)) for side in grid]
        x = F.pad(x.unflatten(1, grid), (0, 0, 0, missing[1], 0, missing[0]))
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        return q * self.scale, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to the window around every pixel.

        Args:
            q (Tensor): Scaled queries ``(B, H, W, heads, D)``.
            k (Tensor): Keys of the same shape.
            v (Tensor): Values of the same shape.

        Returns:
            Tensor: ``(B, H, W, heads, D)``.
        """
        return neighborhood_attention(
            q, k, v, self.rpb, kernel_size=self.kernel_size, dilation=self.dilation
        )


class ConvTokenizer(nn.Module):
    """Stem of NAT: two 3x3 convolutions of stride 2 without activation, then LayerNorm.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Width C of the tokens; the first convolution has C / 2 channels.
        norm_eps (float): Epsilon of the LayerNorm.

    Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023), section 3.3.
    """

    def __init__(self, in_channels: int, embed_dims: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(in_channels, embed_dims // 2, 3, stride=2, padding=1),
            nn.Conv2d(embed_dims // 2, embed_dims, 3, stride=2, padding=1),
        )
        self.norm = nn.LayerNorm(embed_dims, eps=norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Embed images ``(B, in_channels, H, W)``.

        Returns:
            tuple: Tokens ``(B, H' * W', C)`` and the grid ``(H', W')``, a quarter of the image.
        """
        x = self.proj(x.contiguous(memory_format=torch.channels_last))
        return self.norm(map_to_tokens(x)), tuple(x.shape[2:])


class ConvDownsampler(nn.Module):
    """Downsampling of NAT: a 3x3 convolution of stride 2 without bias, then LayerNorm.

    Args:
        in_channels (int): Channels of the map.
        embed_dims (int): Width C of the tokens.
        norm_eps (float): Epsilon of the LayerNorm.

    Source: Hassani et al., "Neighborhood Attention Transformer" (CVPR 2023), section 3.3.
    """

    def __init__(self, in_channels: int, embed_dims: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(in_channels, embed_dims, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(embed_dims, eps=norm_eps)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Map ``(B, in_channels, H, W)`` to tokens ``(B, H' * W', C)`` and the grid, halved."""
        x = self.reduction(x)
        return self.norm(map_to_tokens(x)), tuple(x.shape[2:])
