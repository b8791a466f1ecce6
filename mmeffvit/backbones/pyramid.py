"""Backbone of version 0.1; removed in version 0.3."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

from ..layers import PositionEmbedding
from ..layers.deprecated import parts_of_flags
from ..registry import MODELS
from .base import AttentionConfig
from .hierarchical import HierarchicalTransformer


@MODELS.register_module()
class PyramidTransformer(HierarchicalTransformer):
    """Deprecated: :class:`HierarchicalTransformer` with the arguments of version 0.1.

    Args:
        embed_dims (Sequence[int]): Width of each stage.
        depths (Sequence[int]): Blocks of each stage.
        num_heads (Sequence[int]): Heads of each stage.
        mlp_ratios (Sequence[float]): Hidden width of each stage's MLP over its width.
        attentions (Sequence[dict | Sequence[dict]]): Attention layer of each stage, or of each of
            its blocks.
        position_size (int, optional): Image side of learned position embeddings, one per stage.
        **kwargs: See :class:`HierarchicalTransformer`; also ``overlap`` and a boolean
            ``stage_norm``.
    """

    def __init__(
        self,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratios: Sequence[float],
        attentions: Sequence[AttentionConfig],
        *,
        position_size: int | None = None,
        **kwargs,
    ) -> None:
        warnings.warn(
            'PyramidTransformer is deprecated; write HierarchicalTransformer(arch=dict('
            'embed_dims=..., depths=..., num_heads=..., mlp_ratios=...), attentions=...).',
            DeprecationWarning,
            stacklevel=2,
        )
        arch = dict(
            embed_dims=embed_dims, depths=depths, num_heads=num_heads, mlp_ratios=mlp_ratios
        )
        if position_size:
            kwargs['position'] = [
                partial(PositionEmbedding, grid=(position_size // (4 << i),) * 2, mode='bilinear')
                for i in range(len(depths))
            ]
        super().__init__(arch, attentions=attentions, **parts_of_flags(kwargs))
