from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import (
    crop_tokens,
    merge_windows,
    pad_tokens,
    partition_windows,
    relative_position_index,
    roll_tokens,
    shifted_window_mask,
    window_attention,
)
from ..ops.layout import Grid, divide_up, same_sizes
from ..ops.resize import interpolate_tokens
from ..registry import MODELS
from .attention import check_heads
from .init import init_linear

SHIFT_RULES = ('mmdet', 'mmpretrain', 'timm', 'per_side')


class RelativePositionBias(nn.Module):
    """Mixin for window attention with a learned bias per head and relative position (Swin)."""

    relative_position_bias_table: nn.Parameter
    relative_position_index: Tensor

    def add_relative_position_bias(self, window_size: int, num_heads: int) -> None:
        """Add the table ``((2 * window_size - 1) ** 2, heads)`` and the index into it.

        Args:
            window_size (int): Side of a window.
            num_heads (int): Number of heads.
        """
        table = torch.zeros((2 * window_size - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        index = relative_position_index(window_size)
        self.register_buffer('relative_position_index', index, persistent=False)

    def relative_position_bias(self) -> Tensor:
        """Return the bias ``(heads, N, N)`` between the N tokens of a window."""
        index = self.relative_position_index
        bias = self.relative_position_bias_table[index.flatten()]
        return bias.view(*index.shape, -1).permute(2, 0, 1)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Interpolate a loaded table of another window, bicubically as Swin's code does."""
        name = f'{prefix}relative_position_bias_table'
        stored, own = state_dict.get(name), self.relative_position_bias_table
        if stored is not None and stored.ndim == 2 and stored.shape != own.shape:
            source, target = isqrt(len(stored)), isqrt(len(own))
            if source**2 == len(stored) and stored.shape[1] == own.shape[1]:
                resized = interpolate_tokens(stored[None], (source,) * 2, (target,) * 2)
                state_dict[name] = resized[0]
                print_log(
                    f'{name} of windows of {(source + 1) // 2} is interpolated to windows of '
                    f'{(target + 1) // 2}.',
                    'current',
                )
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class WindowAttention(RelativePositionBias, BaseModule):
    """Multi-head attention inside square windows, regular or shifted.

    Where a side of the grid fits in one window, public code differs in what it shifts. The
    weights are the same, the outputs are not:

    - ``'mmdet'``: both sides, always (mmdet, mmseg, Swin's detection code);
    - ``'mmpretrain'``: neither side once one fits (mmpretrain, Swin's classification code);
    - ``'timm'``: only a side that does not fit; the grid is rolled before it is padded, not after;
    - ``'per_side'``: only a side that does not fit, rolled after padding.

    A grid that the window does not divide is padded with zeros at the bottom and right. Padding
    tokens are attended to, as in Swin's detection code.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        window_size (int): Side of a window.
        shift (bool): Shift the windows by half a window, rounded down.
        shift_rule (str): Whose rule is followed where a side fits in one window, see above.
        out_proj (bool): Whether an output projection follows the attention.

    Raises:
        ValueError: If ``window_size`` is not positive or ``num_heads`` does not divide
            ``embed_dims``.

    Source: Liu et al., "Swin Transformer" (ICCV 2021).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        window_size: int = 7,
        shift: bool = False,
        out_proj: bool = True,
        shift_rule: str = 'per_side',
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        if window_size < 1:
            raise ValueError(f'window_size={window_size} must be at least 1.')
        self.num_heads = num_heads
        self.window_size = window_size
        if shift_rule not in SHIFT_RULES:
            raise ValueError(f'shift_rule={shift_rule!r} must be one of {SHIFT_RULES}.')
        self.shift = shift
        self.shift_rule = shift_rule
        self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims)) if out_proj else nn.Identity()
        self.add_relative_position_bias(window_size, num_heads)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply window attention to tokens ``(B, H*W, C)`` on the grid ``(H, W)``."""
        windows, padded_grid, shifts = self.partition(x, grid)
        out = self.attend(*self.project(windows), padded_grid, shifts)
        out = self.proj(out.transpose(1, 2).flatten(2)).view_as(windows)
        out = merge_windows(out, padded_grid, self.window_size)
        back = (-shifts[0], -shifts[1])
        if self.shift_rule == 'timm':
            return roll_tokens(crop_tokens(out, padded_grid, grid), grid, back)
        return crop_tokens(roll_tokens(out, padded_grid, back), padded_grid, grid)

    def partition(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid, tuple[int, int]]:
        """Pad, shift and partition tokens ``(B, H*W, C)`` into windows.

        Returns:
            tuple: Windows ``(B, windows, N, C)``, the padded grid and the shift of its rows and
            columns.
        """
        size = self.window_size
        shifts = self._shifts((divide_up(grid[0], size), divide_up(grid[1], size)))
        if self.shift_rule == 'timm':
            x, padded_grid = pad_tokens(roll_tokens(x, grid, shifts), grid, size)
        else:
            x, padded_grid = pad_tokens(x, grid, size)
            x = roll_tokens(x, padded_grid, shifts)
        return partition_windows(x, padded_grid, size), padded_grid, shifts

    def _shifts(self, counts: tuple[int, int]) -> Any:
        """Rows and columns to shift a grid of so many windows by."""
        shift = self.window_size // 2 if self.shift else 0
        if not shift or self.shift_rule == 'mmdet':
            return shift, shift
        rows, columns = (shift * torch.sym_min(count - 1, 1) for count in counts)
        if self.shift_rule == 'mmpretrain':
            rows = columns = torch.sym_min(rows, columns)
        return rows, columns

    def project(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project windows ``(B, windows, N, C)`` to queries, keys and values.

        Returns:
            tuple: Three tensors ``(B * windows, heads, N, D)``.
        """
        qkv = self.qkv(windows.flatten(0, 1)).unflatten(-1, (3, self.num_heads, -1))
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, padded_grid: Grid, shifts: tuple[int, int]
    ) -> Tensor:
        """Attend inside each window, with the position bias and the masks of shifted windows.

        Args:
            q (Tensor): Queries ``(B * windows, heads, N, D)``.
            k (Tensor): Keys of the same shape.
            v (Tensor): Values of the same shape.
            padded_grid (tuple[int, int]): Grid of all windows together.
            shifts (tuple[int, int]): By how much it was shifted.

        Returns:
            Tensor: ``(B * windows, heads, N, D)``.
        """
        counts = (padded_grid[0] // self.window_size, padded_grid[1] // self.window_size)
        visible = None if same_sizes(shifts, (0, 0)) else self._visible(shifts, q.device)
        return window_attention(q, k, v, self.relative_position_bias(), counts, visible)

    def _visible(self, shifts: tuple[int, int], device: torch.device) -> Tensor:
        """Boolean masks ``(2, 2, N, N)`` of inner windows and those in the last row and column."""
        size = self.window_size
        mask = shifted_window_mask((2 * size, 2 * size), size, shifts, device)
        return mask.unflatten(0, (2, 2))
