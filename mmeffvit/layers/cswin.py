from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import softmax_attention
from ..ops.layout import Grid, divide_up
from ..registry import MODELS
from .attention import head_dims_of
from .init import init_linear, make_depthwise_conv


@MODELS.register_module()
class CrossShapedWindowAttention(BaseModule):
    """Attention in vertical stripes for half of the heads and in horizontal ones for the others.

    A depthwise convolution of the values inside each stripe encodes positions (LePE). Sides that
    the stripes do not divide are padded with zeros; padding tokens are attended to.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads, even unless the stripe is the whole map.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        stripe_width (int, optional): Width of the stripes; None attends over the whole map.

    Raises:
        ValueError: If ``num_heads`` does not divide ``embed_dims``, or is odd where there are
            stripes.

    Source: Dong et al., "CSWin Transformer" (CVPR 2022).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        stripe_width: int | None = None,
    ) -> None:
        super().__init__()
        branches = 1 if stripe_width is None else 2
        self.head_dims = head_dims_of(embed_dims, num_heads)
        if num_heads % branches:
            raise ValueError(f'num_heads={num_heads} must be even: half of them per direction.')
        self.stripe_width = stripe_width
        self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias))
        self.lepe = nn.ModuleList(
            make_depthwise_conv(embed_dims // branches) for _ in range(branches)
        )
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply attention in both directions to tokens ``(B, H*W, C)`` on the grid ``(H, W)``."""
        qkv = self.project(x, grid)
        out = [
            self._attend(qkv[:, :, :, :, i], cast(nn.Conv2d, conv), grid, self.stripe_size(grid, i))
            for i, conv in enumerate(self.lepe)
        ]
        return self.proj(torch.cat(out, -1).flatten(1, 2))

    def project(self, x: Tensor, grid: Grid) -> Tensor:
        """Project tokens to queries, keys and values of all directions.

        Returns:
            Tensor: ``(B, H, W, 3, directions, c)``, where c is the width of a direction.
        """
        return self.qkv(x).unflatten(-1, (3, len(self.lepe), -1)).unflatten(1, grid)

    def stripe_size(self, grid: Grid, direction: int) -> Grid:
        """Return the height and width of the stripes: direction 0 is vertical, 1 horizontal."""
        if self.stripe_width is None:
            return grid
        return (self.stripe_width, grid[1]) if direction else (grid[0], self.stripe_width)

    def _attend(self, qkv: Tensor, lepe: nn.Module, grid: Grid, stripe: Grid) -> Tensor:
        """Attend in one direction: ``(B, H, W, 3, c)`` to ``(B, H, W, c)``."""
        (H, W), (h, w) = grid, stripe
        rows, columns = divide_up(H, h), divide_up(W, w)
        stripes = self.cut_stripes(qkv, stripe)
        value_map = stripes[:, :, :, 2]
        out = softmax_attention(*self.split_heads(stripes))
        out = out.transpose(1, 2).reshape(value_map.shape)
        out = out + lepe(value_map.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out = out.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return out[:, :H, :W]

    def split_heads(self, stripes: Tensor) -> tuple[Tensor, ...]:
        """Split stripes ``(n, h, w, 3, c)`` into q, k and v of shape ``(n, heads, h*w, D)``."""
        q, k, v = stripes.unflatten(-1, (-1, self.head_dims)).flatten(1, 2).unbind(2)
        return tuple(tokens.transpose(1, 2) for tokens in (q, k, v))

    @staticmethod
    def cut_stripes(x: Tensor, stripe: Grid) -> Tensor:
        """Pad ``(B, H, W, 3, c)`` and cut it into stripes ``(B * stripes, h, w, 3, c)``."""
        (H, W), (h, w) = x.shape[1:3], stripe
        rows, columns = divide_up(H, h), divide_up(W, w)
        x = F.pad(x, (0, 0, 0, 0, 0, columns * w - W, 0, rows * h - H))
        return x.unflatten(2, (columns, w)).unflatten(1, (rows, h)).transpose(2, 3).flatten(0, 2)
