"""Fine matching: the position inside a cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...layers import LinearAttention
from ...ops.layout import Grid
from ...ops.numerics import accurate, without_autocast
from ...registry import MODELS, build_layer
from .transformer import LoFTRBlock, MatchingTransformer

#: Least variance of a heatmap, as in the authors' code.
LEAST_VARIANCE = 1e-10


@MODELS.register_module()
class FineMatching(BaseModule):
    """Refinement of the point in image 1 in windows of the fine maps around two matched cells.

    Args:
        coarse_dims (int): Channels of the coarse tokens.
        fine_dims (int): Channels of the fine maps.
        num_heads (int): Heads of the fine transformer.
        window (int): Side of the windows, in fine pixels; odd.
        transformer (dict, optional): Options of the fine transformer, in place of one self and one
            cross layer of LoFTR's block with linear attention.

    The two linear layers start as PyTorch's do, our choice: by the authors' larger weights the
    heatmaps of a narrow network start so sharp that they do not learn.

    Raises:
        ValueError: If the window is not odd.

    Source: Sun et al., "LoFTR" (CVPR 2021), section 3.4.
    """

    def __init__(
        self,
        coarse_dims: int,
        fine_dims: int,
        num_heads: int = 8,
        window: int = 5,
        transformer: dict | None = None,
    ) -> None:
        super().__init__()
        if window % 2 == 0:
            raise ValueError(f'window={window} must be odd, so that a window has a centre.')
        self.window = window
        self.down_proj = nn.Linear(coarse_dims, fine_dims)
        self.merge_feat = nn.Linear(2 * fine_dims, fine_dims)
        options = dict(
            type=MatchingTransformer,
            num_heads=num_heads,
            attention=dict(type=LinearAttention),
            block=dict(type=LoFTRBlock),
            kinds=('self', 'cross'),
        )
        self.transformer = build_layer({**options, **(transformer or {})}, embed_dims=fine_dims)

    def forward(
        self,
        fine0: Tensor,
        fine1: Tensor,
        coarse0: Tensor,
        coarse1: Tensor,
        pair: Tensor,
        cell0: Tensor,
        cell1: Tensor,
        grid0: Grid,
        grid1: Grid,
    ) -> Tensor:
        """Refine matches.

        Args:
            fine0 (Tensor): Fine map ``(B, C', H, W)`` of image 0.
            fine1 (Tensor): That of image 1.
            coarse0 (Tensor): Coarse tokens ``(B, N, C)`` of image 0.
            coarse1 (Tensor): Those of image 1.
            pair (Tensor): ``(M,)``, index of the pair of each match.
            cell0 (Tensor): ``(M,)``, its cell in image 0.
            cell1 (Tensor): ``(M,)``, its cell in image 1.
            grid0 (tuple[int, int]): Grid of the cells of image 0.
            grid1 (tuple[int, int]): That of image 1.

        Returns:
            Tensor: ``(M, 3)`` in float32: the offset ``(x, y)`` from the cell in image 1 in half
            windows, -1 to 1, and its standard deviation.
        """
        windows0, windows1 = self.windows(
            fine0, fine1, coarse0, coarse1, pair, cell0, cell1, grid0, grid1
        )
        side = (self.window, self.window)
        windows0, windows1 = self.transformer(windows0, windows1, side, side)
        return self.expectation(windows0, windows1)

    def windows(
        self,
        fine0: Tensor,
        fine1: Tensor,
        coarse0: Tensor,
        coarse1: Tensor,
        pair: Tensor,
        cell0: Tensor,
        cell1: Tensor,
        grid0: Grid,
        grid1: Grid,
    ) -> tuple[Tensor, Tensor]:
        """Windows ``(M, window ** 2, C')`` with the coarse features of their cells merged in."""
        windows = [
            gather_windows(fine, pair, cell, grid, self.window)
            for fine, cell, grid in ((fine0, cell0, grid0), (fine1, cell1, grid1))
        ]
        contexts = [
            self.down_proj(coarse[pair, cell]).unsqueeze(1).expand_as(window)
            for coarse, cell, window in zip((coarse0, coarse1), (cell0, cell1), windows)
        ]
        first, second = (self.merge_feat(torch.cat(parts, -1)) for parts in zip(windows, contexts))
        return first, second

    def expectation(self, windows0: Tensor, windows1: Tensor) -> Tensor:
        """Mean and deviation of the heatmap of the centre of window 0 in window 1, ``(M, 3)``."""
        with without_autocast(windows0):
            windows0, windows1 = accurate(windows0), accurate(windows1)
            centre = windows0[:, windows0.shape[1] // 2]
            scores = torch.einsum('mc,mrc->mr', centre, windows1) / centre.shape[-1] ** 0.5
            heatmap = scores.softmax(1)
            line = torch.linspace(-1, 1, self.window, device=heatmap.device, dtype=heatmap.dtype)
            places = torch.stack(torch.meshgrid(line, line, indexing='xy'), -1).flatten(0, 1)
            mean = heatmap @ places
            variance = heatmap @ places.square() - mean.square()
            deviation = variance.clamp(min=LEAST_VARIANCE).sqrt().sum(1, keepdim=True)
        return torch.cat([mean, deviation], 1)


def gather_windows(fine_map: Tensor, pair: Tensor, cell: Tensor, grid: Grid, window: int) -> Tensor:
    """Cut the windows of matched cells out of fine maps; zeros outside of the map.

    Args:
        fine_map (Tensor): ``(B, C, H, W)``, a multiple of the grid.
        pair (Tensor): ``(M,)``, index into the batch.
        cell (Tensor): ``(M,)``, row-major cell whose first fine pixel is the centre.
        grid (tuple[int, int]): Grid of the cells.
        window (int): Side of a window.

    Returns:
        Tensor: ``(M, window ** 2, C)``.
    """
    radius = window // 2
    stride = fine_map.shape[-1] // grid[1]
    padded = F.pad(fine_map, (radius,) * 4)
    B, C, H, W = padded.shape
    rows = padded.permute(0, 2, 3, 1).reshape(B * H * W, C)
    offsets = torch.arange(window, device=cell.device)
    y = stride * (cell // grid[1]).unsqueeze(1) + offsets
    x = stride * (cell % grid[1]).unsqueeze(1) + offsets
    index = ((pair * H).unsqueeze(1) + y).unsqueeze(2) * W + x.unsqueeze(1)
    return rows.index_select(0, index.flatten()).view(-1, window**2, C)
