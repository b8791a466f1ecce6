"""Attention of tokens to themselves or to a context: linear in the tokens, or softmax."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import linear_attention, softmax_attention
from ..ops.layout import Grid
from ..registry import MODELS
from .attention import check_heads, split_heads
from .init import init_linear


class _ContextAttention(BaseModule):
    """Projections of attention whose keys and values come from a context.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        proj_bias (bool): Whether the output projection has a bias.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, proj_bias: bool = True
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.q, self.k, self.v = (
            init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias)) for _ in range(3)
        )
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims, bias=proj_bias))

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        *,
        context: Tensor | None = None,
        context_grid: Grid | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """Apply attention.

        Args:
            x (Tensor): Query tokens ``(B, N, C)``.
            grid (tuple[int, int]): Not used.
            context (Tensor, optional): Key tokens ``(B, M, C)``; ``x`` without them.
            context_grid (tuple[int, int], optional): Not used.
            key_mask (Tensor, optional): Boolean ``(B, M)``, False where a key must not be attended
                to.

        Returns:
            Tensor: ``(B, N, C)``.
        """
        q, k, v = self.project(x, context)
        return self.proj(self._attend(q, k, v, key_mask).transpose(1, 2).flatten(2))

    def project(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(B, heads, N, D)``, keys and values ``(B, heads, M, D)``."""
        context = x if context is None else context
        q, k, v = (
            split_heads(linear(tokens), self.num_heads)
            for linear, tokens in ((self.q, x), (self.k, context), (self.v, context))
        )
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        raise NotImplementedError


@MODELS.register_module()
class LinearAttention(_ContextAttention):
    """Attention by the kernel ``elu(x) + 1``, whose cost is linear in the tokens.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        proj_bias (bool): Whether the output projection has a bias.

    Source: Katharopoulos et al., "Transformers are RNNs" (ICML 2020), as in LoFTR.
    """

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        return linear_attention(q, k, v, key_mask)


@MODELS.register_module()
class FullAttention(_ContextAttention):
    """Softmax attention to all tokens of a context.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        proj_bias (bool): Whether the output projection has a bias.
    """

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Tensor:
        bias = None
        if key_mask is not None:
            # Finite, so that a row with no visible key gives numbers and not NaN.
            hidden = torch.finfo(q.dtype).min
            bias = torch.zeros_like(key_mask, dtype=q.dtype).masked_fill(~key_mask, hidden)
            bias = bias[:, None, None]
        return softmax_attention(q, k, v, bias)
