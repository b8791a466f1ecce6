"""Transformers over the tokens of two images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...layers import ConvMlp
from ...layers.init import init_linear
from ...ops.layout import Grid
from ...registry import MODELS, build_layer

KINDS = ('self', 'cross')


@MODELS.register_module()
class CrossBlock(BaseModule):
    """Pre-norm transformer block with attention to a context.

    ``x + attn(norm1(x), norm1(context))``, then ``x + mlp(norm2(x))`` with a depthwise convolution
    in the MLP.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        attention (dict): Config of a layer that takes ``context``, ``context_grid`` and
            ``key_mask``.
        mlp_ratio (int): Hidden width of the MLP over C.

    Attributes:
        sequential (bool): In cross layers of :class:`MatchingTransformer`, whether the second image
            attends to the tokens of the first image that this layer has changed.

    Source: Tang et al., "QuadTree Attention for Vision Transformers" (ICLR 2022), the released
    matching code.
    """

    sequential: ClassVar[bool] = False

    def __init__(
        self, embed_dims: int, num_heads: int, attention: dict, mlp_ratio: int = 4
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = build_layer(
            attention, embed_dims=embed_dims, num_heads=num_heads, qkv_bias=False
        )
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = ConvMlp(embed_dims, mlp_ratio * embed_dims, relu=True)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module)
        # Equal weights of the levels: our choice; the authors draw them from a normal distribution.
        level_weight = getattr(self.attn, 'level_weight', None)
        if level_weight is not None:
            nn.init.zeros_(level_weight)

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        context: Tensor,
        context_grid: Grid,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Apply the block.

        Args:
            x (Tensor): Tokens ``(B, H*W, C)``.
            grid (tuple[int, int]): Their grid ``(H, W)``.
            context (Tensor): Tokens ``(B, H'*W', C)``, or ``x`` itself.
            context_grid (tuple[int, int]): Their grid.
            mask (Tensor, optional): Boolean ``(B, H*W)``, False outside of the image; such tokens
                become zero.
            context_mask (Tensor, optional): Boolean ``(B, H'*W')``, False where a key must not be
                attended to.

        Returns:
            Tensor: ``(B, H*W, C)``.
        """
        attended = self.attn(
            self.norm1(x),
            grid,
            context=self.norm1(context),
            context_grid=context_grid,
            key_mask=context_mask,
        )
        x = x + attended
        x = x + self.mlp(self.norm2(x), grid)
        # The convolution would bring what is outside of the image into it.
        return x if mask is None else x * mask.unsqueeze(-1)


@MODELS.register_module()
class LoFTRBlock(BaseModule):
    """Block of LoFTR: the attended message joins its token in an MLP.

    ``x + norm2(mlp([x, norm1(attn(x, context))]))``.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        attention (dict): Config of a layer that takes ``context`` and ``key_mask``.

    Attributes:
        sequential (bool): See :class:`CrossBlock`.

    Source: Sun et al., "LoFTR" (CVPR 2021), section 3.2.
    """

    sequential: ClassVar[bool] = True

    def __init__(self, embed_dims: int, num_heads: int, attention: dict) -> None:
        super().__init__()
        self.attn = build_layer(
            attention, embed_dims=embed_dims, num_heads=num_heads, qkv_bias=False, proj_bias=False
        )
        self.mlp = nn.Sequential(
            nn.Linear(2 * embed_dims, 2 * embed_dims, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(2 * embed_dims, embed_dims, bias=False),
        )
        self.norm1 = nn.LayerNorm(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        context: Tensor,
        context_grid: Grid,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Apply the block; see :meth:`CrossBlock.forward`."""
        message = self.attn(
            x, grid, context=context, context_grid=context_grid, key_mask=context_mask
        )
        if mask is not None:
            message = message * mask.unsqueeze(-1)
        message = self.norm1(message)
        return x + self.norm2(self.mlp(torch.cat([x, message], -1)))


@MODELS.register_module()
class MatchingTransformer(BaseModule):
    """Layers of self-attention in both images and cross-attention between them, weights shared.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        attention (dict): Config of the attention layer; any that takes ``context``.
        block (dict): Config of the block, :class:`CrossBlock` or :class:`LoFTRBlock`.
        kinds (Sequence[str]): ``'self'`` or ``'cross'`` per layer.
        init_cfg (dict, optional): mmengine initialisation. All layers start as copies of one, as
            the authors' do.

    Raises:
        ValueError: If a kind is none of these.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attention: dict,
        block: dict | str | type = CrossBlock,
        kinds: Sequence[str] = KINDS * 4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        unknown = next((kind for kind in kinds if kind not in KINDS), None)
        if unknown is not None:
            raise ValueError(f"kinds holds {unknown!r}; layers are 'self' or 'cross'.")
        self.embed_dims = embed_dims
        self.kinds = tuple(kinds)
        first = build_layer(
            block, embed_dims=embed_dims, num_heads=num_heads, attention=dict(attention)
        )
        self.layers = nn.ModuleList(copy.deepcopy(first) for _ in kinds)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        x_grid: Grid,
        y_grid: Grid,
        x_mask: Tensor | None = None,
        y_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update the tokens of both images.

        Args:
            x (Tensor): Tokens ``(B, N, C)`` of the first image.
            y (Tensor): Tokens ``(B, M, C)`` of the second.
            x_grid (tuple[int, int]): Grid of the first.
            y_grid (tuple[int, int]): Grid of the second.
            x_mask (Tensor, optional): Boolean ``(B, N)``, False outside of the image.
            y_mask (Tensor, optional): Boolean ``(B, M)``.

        Returns:
            tuple: Both sets of tokens.
        """
        for layer, kind in zip(self.layers, self.kinds):
            if kind == 'self':
                x = layer(x, x_grid, x, x_grid, x_mask, x_mask)
                y = layer(y, y_grid, y, y_grid, y_mask, y_mask)
            else:
                before = x
                x = layer(x, x_grid, y, y_grid, x_mask, y_mask)
                source = x if layer.sequential else before
                y = layer(y, y_grid, source, x_grid, y_mask, x_mask)
        return x, y
