"""The baselines of every comparison: full attention and PVT's spatial reduction."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import map_to_tokens, softmax_attention, tokens_to_map
from ..ops.explain import attention_weights
from ..ops.layout import Grid
from ..registry import MODELS
from .carrier import Carrier
from .explanation import AttentionMap, Look, spread
from .init import init_conv, init_linear


def head_dims_of(embed_dims: int, num_heads: int) -> int:
    """Width of one head.

    Raises:
        ValueError: If the heads do not divide the width.
    """
    if num_heads < 1 or embed_dims % num_heads:
        raise ValueError(
            f'embed_dims={embed_dims} is not divisible by num_heads={num_heads}; '
            'choose a divisor as the number of heads.'
        )
    return embed_dims // num_heads


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention without projections.

    Args:
        q (Tensor): Queries ``(B, N, C)``.
        k (Tensor): Keys ``(B, M, C)``.
        v (Tensor): Values ``(B, M, C)``.
        num_heads (int): Number of heads.
        bias (Tensor, optional): Added to the scores, broadcast to ``(B, heads, N, M)``.

    Returns:
        Tensor: ``(B, N, C)``.
    """
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    out = softmax_attention(q, k, v, bias)
    return out.transpose(1, 2).flatten(2)


@MODELS.register_module()
class SoftmaxAttention(BaseModule):
    """Multi-head attention of every token to every token.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
    """

    def __init__(self, embed_dims: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        head_dims_of(embed_dims, num_heads)
        self.num_heads = num_heads
        self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))

    def forward(self, x: Tensor, grid: Grid, carrier: Carrier | None = None) -> Tensor:
        """Map tokens ``(B, N, C)`` to tokens; neither grid nor carrier is used."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(softmax_attention(q, k, v).transpose(1, 2).flatten(2))

    def explain(
        self, x: Tensor, grid: Grid, carrier: Carrier | None = None, *, look: Look
    ) -> list[AttentionMap]:
        """Where the point looked, and each token before the grid, such as the class token."""
        q, k, _ = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        num_extra_tokens = x.shape[1] - grid[0] * grid[1]
        row, column = look.cell(grid)
        queries = [num_extra_tokens + row * grid[1] + column, *range(num_extra_tokens)]
        weights = attention_weights(q[:1, :, queries], k[:1])[0].mean(0)
        point, *extra = weights[:, num_extra_tokens:].unflatten(1, grid)
        return [
            look.at_point('keys of the point', point, grid),
            *(AttentionMap(f'keys of extra token {i}', row, None) for i, row in enumerate(extra)),
        ]


@MODELS.register_module()
class SpatialReductionAttention(BaseModule):
    """Attention to a map reduced by a strided convolution (PVT, section 3.3).

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        sr_ratio (int): Kernel and stride of the reduction; 1 is full attention. A map smaller than
            the kernel, or one it does not divide, loses its remainder as in the authors' code;
            one smaller than ``sr_ratio`` is padded with zeros up to it.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, sr_ratio: int = 1
    ) -> None:
        super().__init__()
        head_dims_of(embed_dims, num_heads)
        self.num_heads = num_heads
        self.sr_ratio = sr_ratio
        self.q = init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias))
        self.kv = init_linear(nn.Linear(embed_dims, 2 * embed_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))
        if sr_ratio > 1:
            self.sr = init_conv(nn.Conv2d(embed_dims, embed_dims, sr_ratio, sr_ratio))
            self.norm = nn.LayerNorm(embed_dims)

    def forward(self, x: Tensor, grid: Grid, carrier: Carrier | None = None) -> Tensor:
        """Map tokens ``(B, H*W, C)`` on the grid ``(H, W)`` to tokens."""
        q = self.q(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        reduced = self._reduce(x, grid) if self.sr_ratio > 1 else x
        k, v = self.kv(reduced).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(softmax_attention(q, k, v).transpose(1, 2).flatten(2))

    def explain(
        self, x: Tensor, grid: Grid, carrier: Carrier | None = None, *, look: Look
    ) -> list[AttentionMap]:
        """Where the point looked."""
        row, column = look.cell(grid)
        query = x[:, row * grid[1] + column : row * grid[1] + column + 1]
        q = self.q(query).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        reduced = self._reduce(x, grid) if self.sr_ratio > 1 else x
        k, _ = self.kv(reduced).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        key_grid = tuple(max(1, side // self.sr_ratio) for side in grid)
        weights = attention_weights(q, k)[0, :, 0].mean(0).unflatten(0, key_grid)
        return [look.at_point('keys of the point', spread(weights, self.sr_ratio, grid), grid)]

    def _reduce(self, x: Tensor, grid: Grid) -> Tensor:
        feature_map = tokens_to_map(x, grid)
        bottom, right = (max(0, self.sr_ratio - side) for side in grid)
        if bottom or right:
            feature_map = F.pad(feature_map, (0, right, 0, bottom))
        return self.norm(map_to_tokens(self.sr(feature_map)))
