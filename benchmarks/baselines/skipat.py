"""Frozen baseline: attention by explicit softmax, as ViT code was when SkipAt was published."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from mmeffvit.layers import SoftmaxAttention


class ExplicitAttention(nn.Module):
    """The same layer with its attention matrix written out.

    Args:
        layer (SoftmaxAttention): Whose projections to use.
    """

    def __init__(self, layer: SoftmaxAttention) -> None:
        super().__init__()
        self.qkv, self.proj, self.num_heads = layer.qkv, layer.proj, layer.num_heads

    def forward(self, x: Tensor, grid) -> Tensor:
        """Attend."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


def with_explicit_softmax(model: nn.Module) -> nn.Module:
    """A copy of the model whose full attention is explicit."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        if isinstance(block.attn, SoftmaxAttention):
            block.attn = ExplicitAttention(block.attn)
    return model
