from __future__ import annotations

from typing import Any, cast

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...registry import MODELS, build_layer
from .attention import EpipolarAttention, Tables, relative_positions, tree_widths

#: Logits that inference holds of one layer; lines are independent, so they are taken in groups.
CHUNK_ENTRIES = 2**24


class SelfLayer(BaseModule):
    """Attention of both images along their own lines, with the same weights.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        attention (dict): Config of the attention layer.
    """

    def __init__(self, embed_dims: int, num_heads: int, attention: dict) -> None:
        super().__init__()
        self.attn: Any = build_layer(attention, embed_dims=embed_dims, num_heads=num_heads)
        self.norm1 = nn.LayerNorm(embed_dims)

    def forward(self, left: Tensor, right: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Update tokens ``(lines, W, C)`` of both images."""
        both = torch.cat([left, right])
        normed = self.norm1(both)
        left, right = (both + self.attn(normed, normed, tables)).chunk(2)
        return left, right


class CrossLayer(BaseModule):
    """Attention between the lines of both images: right to left, then left to the new right.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        attention (dict): Config of the attention layer.
    """

    def __init__(self, embed_dims: int, num_heads: int, attention: dict) -> None:
        super().__init__()
        self.attn: Any = build_layer(attention, embed_dims=embed_dims, num_heads=num_heads)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)

    def forward(self, left: Tensor, right: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Update tokens ``(lines, W, C)`` of both images."""
        queries, right, keys = self._right(left, right, tables)
        return left + self.attn(queries, keys, tables), right

    def logits(self, left: Tensor, right: Tensor, tables: Tables) -> Tensor:
        """Logits of left queries and right keys, summed over heads: ``(lines, W, W)``.

        A left token sees no right token to its right, so no disparity is negative.
        """
        queries, _, keys = self._right(left, right, tables)
        logits = self.attn.logits(queries, keys, tables).sum(1)
        W = logits.shape[-1]
        forbidden = torch.ones(W, W, dtype=torch.bool, device=logits.device).triu(1)
        return logits.masked_fill(forbidden, -torch.inf)

    def _right(self, left: Tensor, right: Tensor, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
        # For right queries too the difference is of left minus right.
        flipped = None if tables is None else [table.flip(0) for table in tables]
        queries, right_queries = self.norm1(left), self.norm1(right)
        right = right + self.attn(right_queries, queries, flipped)
        return queries, right, self.norm2(right)


@MODELS.register_module()
class StereoTransformer(BaseModule):
    """Alternating self- and cross-attention along the lines of two rectified images.

    Its result is the logits of the last cross-attention. That direction is always full, as the
    matching needs all of them; with a tree all others are trees.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        depth (int): Number of self layers, and of cross layers.
        attention (dict): Config of the attention, :class:`EpipolarAttention` or
            :class:`EpipolarTreeAttention`.
        relative_position (bool): Whether relative positions are encoded.
        with_cp (bool): Recompute every layer in backward.
        init_cfg (dict, optional): mmengine initialisation.

    Source: Li et al., "Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective
    with Transformers" (ICCV 2021), section 3.
    """

    def __init__(
        self,
        embed_dims: int = 128,
        num_heads: int = 8,
        depth: int = 6,
        attention: dict | str | type = EpipolarAttention,
        relative_position: bool = True,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        attention = dict(attention) if isinstance(attention, dict) else dict(type=attention)
        self.embed_dims = embed_dims
        self.self_layers, self.cross_layers = (
            nn.ModuleList(layer(embed_dims, num_heads, attention) for _ in range(depth))
            for layer in (SelfLayer, CrossLayer)
        )
        self.relative_position = relative_position
        self.with_cp = with_cp
        self.num_heads = num_heads

    def forward(self, left: Tensor, right: Tensor, spacing: float = 1.0) -> Tensor:
        """Compare all pairs of tokens of every line.

        Args:
            left (Tensor): Map ``(B, C, h, W)`` of the left image.
            right (Tensor): Map ``(B, C, h, W)`` of the right image.
            spacing (float): Pixels between two columns.

        Returns:
            Tensor: ``(B, h, W, W)`` of left and right columns in float32, ``-inf`` where the right
            column is beyond the left one.
        """
        B, _, h, W = left.shape
        tables = self.tables(W, spacing, left)
        # (B, C, h, W) -> (B * h, W, C)
        left, right = (x.permute(0, 2, 3, 1).flatten(0, 1) for x in (left, right))
        if torch.is_grad_enabled():
            logits = self._run(left, right, tables)
        else:
            lines = max(1, CHUNK_ENTRIES // (2 * self.num_heads * W * W))
            parts = zip(left.split(lines), right.split(lines))
            logits = torch.cat([self._run(*part, tables) for part in parts])
        return logits.unflatten(0, (B, h))

    def tables(self, width: int, spacing: float, like: Tensor) -> Tables:
        """Relative positions of every level of the attention, finest first; None without them."""
        if not self.relative_position:
            return None
        widths = tree_widths(width, cast(SelfLayer, self.self_layers[0]).attn.levels)
        return [
            relative_positions(cells, self.embed_dims, spacing * 2**level, like)
            for level, cells in enumerate(widths)
        ]

    def _run(self, left: Tensor, right: Tensor, tables: Tables) -> Tensor:
        *first, last = self.cross_layers
        for index, self_layer in enumerate(self.self_layers):
            left, right = self._layer(self_layer, left, right, tables)
            if index < len(first):
                left, right = self._layer(first[index], left, right, tables)
        return cast(CrossLayer, last).logits(left, right, tables)

    def _layer(
        self, layer: nn.Module, left: Tensor, right: Tensor, tables: Tables
    ) -> tuple[Tensor, Tensor]:
        if self.with_cp and self.training and left.requires_grad:
            out = checkpoint(layer, left, right, tables, use_reentrant=False)
            return cast('tuple[Tensor, Tensor]', out)
        return layer(left, right, tables)
