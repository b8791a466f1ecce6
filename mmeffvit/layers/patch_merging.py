from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.layout import Grid, divide_up
from ..registry import MODELS
from .common import init_linear


@MODELS.register_module()
class PatchMerging(nn.Module):
    """Patch merging (Swin): concatenate the pixels of each 2x2 patch, LayerNorm, linear layer.

    Odd sides are padded with zeros at the bottom and right.

    Args:
        in_channels (int): Channels C of the map.
        embed_dims (int): Width of the tokens.
        norm_eps (float): Epsilon of the LayerNorm.
    """

    def __init__(self, in_channels: int, embed_dims: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_channels, eps=norm_eps)
        self.reduction = init_linear(nn.Linear(4 * in_channels, embed_dims, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Merge the patches of a map.

        Args:
            x (Tensor): ``(B, C, H, W)``.

        Returns:
            tuple: Tokens ``(B, H' * W', embed_dims)`` and the grid ``(H', W')``.
        """
        height, width = x.shape[2:]
        grid = (divide_up(height, 2), divide_up(width, 2))
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 2 * grid[1] - width, 0, 2 * grid[0] - height))
        # Swin puts (row, column) of the patch in the order (0,0), (1,0), (0,1), (1,1).
        patches = x.unflatten(2, (grid[1], 2)).unflatten(1, (grid[0], 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(patches.flatten(3).flatten(1, 2))), grid
