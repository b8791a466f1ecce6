from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.layout import Grid


def resize_position_embedding(
    embedding: Tensor, source: Grid, target: Grid, mode: str = 'bicubic', num_extra_tokens: int = 0
) -> Tensor:
    """Resize a learned position table to another grid, in float32.

    Args:
        embedding (Tensor): ``(1, E + H*W, C)`` with ``E`` extra tokens first.
        source (tuple[int, int]): Its grid ``(H, W)``.
        target (tuple[int, int]): The wanted grid.
        mode (str): ``'bicubic'`` or ``'bilinear'``, half-pixel centres.
        num_extra_tokens (int): ``E``; they are passed on unchanged.

    Returns:
        Tensor: ``(1, E + H'*W', C)``; the input itself where the grids agree.

    Raises:
        ValueError: If the table does not have ``E + H*W`` rows.
    """
    rows = num_extra_tokens + source[0] * source[1]
    if embedding.shape[1] != rows:
        raise ValueError(
            f'A position table of {embedding.shape[1]} rows does not fit {num_extra_tokens} extra '
            f'tokens and a grid of {source[0]}x{source[1]}; give the grid it was trained on.'
        )
    if source == target:
        return embedding
    extra, grid_part = embedding.split([num_extra_tokens, source[0] * source[1]], dim=1)
    table = grid_part.unflatten(1, source).permute(0, 3, 1, 2).float()
    table = F.interpolate(table, size=target, mode=mode, align_corners=False)
    table = table.permute(0, 2, 3, 1).flatten(1, 2).to(embedding.dtype)
    return torch.cat([extra, table], dim=1) if num_extra_tokens else table


class PositionEmbedding(nn.Module):
    """Learned absolute position table that follows the grid of its input.

    Args:
        embed_dims (int): Width C of the tokens.
        grid (tuple[int, int]): Grid ``(H, W)`` of the table.
        mode (str): Interpolation to other grids.
        num_extra_tokens (int): Tokens that precede the grid, such as a class token.
    """

    def __init__(
        self, embed_dims: int, grid: Grid, mode: str = 'bicubic', num_extra_tokens: int = 0
    ) -> None:
        super().__init__()
        self.grid = grid
        self.mode = mode
        self.num_extra_tokens = num_extra_tokens
        rows = num_extra_tokens + grid[0] * grid[1]
        self.weight = nn.Parameter(torch.zeros(1, rows, embed_dims))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Add the table to tokens ``(B, E + H*W, C)`` on the grid ``(H, W)``."""
        return x + resize_position_embedding(
            self.weight, self.grid, grid, self.mode, self.num_extra_tokens
        )
