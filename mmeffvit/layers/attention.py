"""Softmax attention and PVT's spatial-reduction attention: baselines of the efficient layers."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import map_to_tokens, softmax_attention, tokens_to_map
from ..ops.layout import Grid
from ..registry import MODELS
from .init import init_conv, init_linear


def check_heads(embed_dims: int, num_heads: int) -> None:
    """Raise unless the heads divide the width.

    Raises:
        ValueError: If they do not.
    """
    if num_heads < 1 or embed_dims % num_heads:
        raise ValueError(
            f'embed_dims={embed_dims} is not divisible by num_heads={num_heads}; '
            'choose a divisor as the number of heads.'
        )


def head_dims_of(embed_dims: int, num_heads: int) -> int:
    """Return the width of one head.

    Raises:
        ValueError: If the heads do not divide the width.
    """
    check_heads(embed_dims, num_heads)
    return embed_dims // num_heads


def split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """View tokens ``(B, N, C)`` as one set per head ``(B, heads, N, C / heads)``."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int, bias: Tensor | None = None) -> Tensor:
    """Multi-head softmax attention without projections.

    Args:
        q (Tensor): Queries ``(B, N, C)``.
        k (Tensor): Keys ``(B, M, C)``.
        v (Tensor): Values ``(B, M, C)``.
        num_heads (int): Number of heads.
        bias (Tensor, optional): Added to the scores, broadcast to ``(B, heads, N, M)``.

    Returns:
        Tensor: ``(B, N, C)``.
    """
    q, k, v = (split_heads(tokens, num_heads) for tokens in (q, k, v))
    out = softmax_attention(q, k, v, bias)
    return out.transpose(1, 2).flatten(2)


@MODELS.register_module()
class SoftmaxAttention(BaseModule):
    """Multi-head softmax self-attention over all tokens.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
    """

    def __init__(self, embed_dims: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply self-attention.

        Args:
            x (Tensor): Tokens ``(B, N, C)``.
            grid (tuple[int, int]): Not used.

        Returns:
            Tensor: ``(B, N, C)``.
        """
        q, k, v = self.project(x, grid)
        return self.proj(softmax_attention(q, k, v).transpose(1, 2).flatten(2))

    def project(self, x: Tensor, grid: Grid | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens ``(B, N, C)`` to queries, keys and values ``(B, heads, N, D)``."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)


@MODELS.register_module()
class SpatialReductionAttention(BaseModule):
    """Attention whose keys and values come from a map that a strided convolution reduces.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        sr_ratio (int): Kernel size and stride of the reduction; 1 is full attention. Rows and
            columns beyond the last multiple are ignored, as in the authors' code; a side shorter
            than ``sr_ratio`` is padded with zeros.
        norm_eps (float): Epsilon of the norm of the reduced map; 1e-6 in mmdet's and mmseg's code.

    Source: Wang et al., "Pyramid Vision Transformer" (ICCV 2021), section 3.3.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        sr_ratio: int = 1,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.sr_ratio = sr_ratio
        self.q = init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias))
        self.kv = init_linear(nn.Linear(embed_dims, 2 * embed_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))
        if sr_ratio > 1:
            self.sr = init_conv(nn.Conv2d(embed_dims, embed_dims, sr_ratio, sr_ratio))
            self.norm = nn.LayerNorm(embed_dims, eps=norm_eps)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply spatial-reduction attention.

        Args:
            x (Tensor): Tokens ``(B, H*W, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            Tensor: ``(B, H*W, C)``.
        """
        q, k, v = self.project(x, grid)
        return self.proj(softmax_attention(q, k, v).transpose(1, 2).flatten(2))

    def project(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens to queries ``(B, heads, H*W, D)``, and the reduced map to keys and values.

        Returns:
            tuple: Queries, keys and values; the latter are ``(B, heads, M, D)``, where M counts the
            cells of the grid with sides ``max(1, side // sr_ratio)``.
        """
        q = split_heads(self.q(x), self.num_heads)
        reduced = self._reduce(x, grid)
        k, v = self.kv(reduced).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _reduce(self, x: Tensor, grid: Grid) -> Tensor:
        """Reduce tokens ``(B, H*W, C)`` to ``(B, M, C)``."""
        if self.sr_ratio == 1:
            return x
        feature_map = tokens_to_map(x, grid)
        bottom, right = (max(0, self.sr_ratio - side) for side in grid)
        if bottom or right:
            feature_map = F.pad(feature_map, (0, right, 0, bottom))
        return self.norm(map_to_tokens(self.sr(feature_map)))


@MODELS.register_module()
class LinearSpatialReductionAttention(SpatialReductionAttention):
    """Attention whose keys and values come from a map that is pooled to a fixed size.

    Average pooling to ``pool_size`` cells a side, a 1x1 convolution, LayerNorm and GELU.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        pool_size (int): Side of the pooled map.

    Source: Wang et al., "PVT v2" (Computational Visual Media 2022), section 3.2.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, pool_size: int = 7
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias)
        self.pool_size = pool_size
        self.sr = init_conv(nn.Conv2d(embed_dims, embed_dims, 1))
        self.norm = nn.LayerNorm(embed_dims)

    def _reduce(self, x: Tensor, grid: Grid) -> Tensor:
        """Reduce tokens ``(B, H*W, C)`` to ``(B, pool_size ** 2, C)``."""
        pooled = F.adaptive_avg_pool2d(tokens_to_map(x, grid), self.pool_size)
        return F.gelu(self.norm(map_to_tokens(self.sr(pooled))))
