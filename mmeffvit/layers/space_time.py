"""Space-time attention of the UniFormer denoiser, whose decoder can reuse the encoder's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops import softmax_attention
from .attention import check_heads
from .init import init_linear


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


class SpaceTimeAttention(nn.Module):
    """Joint space-time softmax attention over the tokens of a clip, or of a window of it.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        reuses (bool): Reuse the attention of another block; only values are projected then.

    Source: Li et al., "UniFormer" (ICLR 2022), section 3.2; reuse: SkipAt (ICLR 2024), section 4.4.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True, reuses: bool = False
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        if reuses:
            self.v = init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias))
        else:
            self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))

    def forward(
        self, x: Tensor, source: AttentionSource | None = None, keep: str | None = None
    ) -> tuple[Tensor, AttentionSource | None]:
        """Apply space-time attention.

        Args:
            x (Tensor): Tokens ``(B, N, C)``.
            source (AttentionSource, optional): Attention to reuse instead of computing one.
            keep (str, optional): Return this layer's attention for reuse: ``'matrix'`` as it is,
                ``'half'`` in bfloat16, ``'qk'`` as queries and keys.

        Returns:
            tuple: Tokens ``(B, N, C)``, and the attention if ``keep`` asks for it, else None.
        """
        if source is not None:
            v = self.v(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            return self._project_heads(source.mix(v)), None
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if keep in ('matrix', 'half'):
            weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
            out = self._project_heads(weights @ v)
            return out, AttentionSource(weights.bfloat16() if keep == 'half' else weights)
        out = self._project_heads(softmax_attention(q, k, v))
        return out, AttentionSource(q=q, k=k) if keep == 'qk' else None

    def _project_heads(self, out: Tensor) -> Tensor:
        """Concatenate heads ``(B, heads, N, D)`` and apply the output projection."""
        return self.proj(out.transpose(1, 2).flatten(2))
