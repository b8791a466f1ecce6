"""Space-time attention of the UniFormer denoiser, whose decoder can reuse the encoder's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import softmax_attention
from ..ops.layout import Grid
from .attention import check_heads, split_heads
from .init import init_linear

KEEPS = ('matrix', 'half', 'qk')


class AttentionSource(NamedTuple):
    """Attention of an encoder block, passed to the decoder block that reuses it.

    Attributes:
        weights (Tensor, optional): Softmax matrix ``(B, heads, N, N)``; None if q and k are kept.
        q (Tensor, optional): Queries ``(B, heads, N, D)``; None if the matrix is kept.
        k (Tensor, optional): Keys ``(B, heads, N, D)``; None if the matrix is kept.
    """

    weights: Tensor | None = None
    q: Tensor | None = None
    k: Tensor | None = None

    def mix(self, v: Tensor) -> Tensor:
        """Apply the attention to values ``(B, heads, N, D)``; the result has their shape."""
        if self.weights is None:
            assert self.q is not None and self.k is not None
            return softmax_attention(self.q, self.k, v)
        if self.weights.dtype == v.dtype:
            return self.weights @ v
        # One head at a time, so that no whole matrix is widened again.
        pairs = zip(self.weights.flatten(0, 1), v.flatten(0, 1))
        return torch.stack([weights.to(v.dtype) @ values for weights, values in pairs]).view_as(v)


class _ClipAttention(BaseModule):
    """Windows, heads and output projection of the layers below."""

    def __init__(self, embed_dims: int, num_heads: int, window: Sequence[int] | None) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        if window is not None and (len(window) != 3 or min(window) < 1):
            raise ValueError(
                f'window={window} must be three positive numbers: frames, rows and columns.'
            )
        self.num_heads = num_heads
        self.window = window
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))

    def window_of(self, grid: Grid) -> Grid:
        """Return the window on a grid ``(T, H, W)``, on which it may be cut off.

        Raises:
            ValueError: If it does not divide the grid.
        """
        if self.window is None:
            return grid
        window = tuple(min(size, side) for size, side in zip(self.window, grid))
        if any(side % size for size, side in zip(window, grid)):
            raise ValueError(
                f'window={tuple(self.window)} does not divide a grid of {tuple(grid)}; choose the '
                'frames of the window among the divisors of the number of frames.'
            )
        return window

    def partition(self, x: Tensor, grid: Grid) -> Tensor:
        """Cut tokens ``(B, T*H*W, C)`` into windows ``(B * windows, N, C)``."""
        if self.window is None:
            return x
        x = x.unflatten(1, grid)
        for axis, size in zip((1, 3, 5), self.window_of(grid)):
            x = x.unflatten(axis, (-1, size))
        return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3).flatten(1, 3)

    def merge_heads(self, out: Tensor, grid: Grid) -> Tensor:
        """Project ``(B * windows, heads, N, D)`` and put windows together: ``(B, T*H*W, C)``."""
        out = self.proj(out.transpose(1, 2).flatten(2))
        if self.window is None:
            return out
        window = self.window_of(grid)
        counts = [side // size for side, size in zip(grid, window)]
        out = out.unflatten(1, window).unflatten(0, (-1, *counts))
        return out.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 6)


class SpaceTimeAttention(_ClipAttention):
    """Joint space-time softmax attention over the tokens of a clip, or of windows of it.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        window (Sequence[int], optional): Frames, rows and columns of the windows that attention is
            computed in; None attends over the whole clip, so memory grows with the square of its
            size.

    Raises:
        ValueError: If ``num_heads`` does not divide ``embed_dims``, or ``window`` is not three
            positive numbers.

    Source: Li et al., "UniFormer" (ICLR 2022), section 3.2.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        window: Sequence[int] | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, window)
        self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply space-time attention to tokens ``(B, T*H*W, C)`` on the grid ``(T, H, W)``."""
        return self.merge_heads(softmax_attention(*self.project(x, grid)), grid)

    def project(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Project to queries, keys and values ``(B * windows, heads, N, D)``."""
        qkv = self.qkv(self.partition(x, grid)).unflatten(-1, (3, self.num_heads, -1))
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)


class SharedSpaceTimeAttention(SpaceTimeAttention):
    """Space-time attention that also returns its attention, which a decoder block reuses.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        window (Sequence[int], optional): See :class:`SpaceTimeAttention`.
        keep (str): What is returned. ``'matrix'`` the softmax matrix, the fewest multiplications;
            ``'half'`` rounded to bfloat16; ``'qk'`` queries and keys, from which fused attention
            computes the matrix again without storing it: the least memory, and on CPUs the least
            time.

    Raises:
        ValueError: See :class:`SpaceTimeAttention`; also if ``keep`` is not one of the allowed
            values.

    Source: SkipAt (ICLR 2024), section 4.4.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        window: Sequence[int] | None = None,
        keep: str = 'matrix',
    ) -> None:
        if keep not in KEEPS:
            raise ValueError(f'keep={keep!r} must be one of {KEEPS}.')
        super().__init__(embed_dims, num_heads, qkv_bias, window)
        self.keep = keep

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, AttentionSource]:
        """Map tokens ``(B, T*H*W, C)`` to the same shape and the attention for the decoder."""
        q, k, v = self.project(x, grid)
        if self.keep == 'qk':
            return self.merge_heads(softmax_attention(q, k, v), grid), AttentionSource(q=q, k=k)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        out = self.merge_heads(weights @ v, grid)
        return out, AttentionSource(weights.bfloat16() if self.keep == 'half' else weights)


class ReusedSpaceTimeAttention(_ClipAttention):
    """Space-time attention of a decoder block with the attention of an encoder block.

    Only values are projected.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the value projection has biases.
        window (Sequence[int], optional): That of the encoder block.

    Source: SkipAt (ICLR 2024), section 4.4.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        window: Sequence[int] | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, window)
        self.v = init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias))

    def forward(self, x: Tensor, grid: Grid, source: AttentionSource) -> Tensor:
        """Apply ``source`` to the values of tokens ``(B, T*H*W, C)``."""
        v = split_heads(self.v(self.partition(x, grid)), self.num_heads)
        return self.merge_heads(source.mix(v), grid)
