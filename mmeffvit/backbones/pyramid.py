"""Backbone of version 0.1; removed in version 0.3."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

from torch import nn

from ..layers import PatchEmbed, PositionEmbedding
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
        super().__init__(arch, attentions=attentions, **_parts_of_flags(kwargs))


def _parts_of_flags(options: dict) -> dict:
    """Replace the flags ``overlap`` and ``stage_norm`` of version 0.1 by the layers they chose."""
    options = dict(options)
    flags = {
        name: options.pop(name)
        for name in ('overlap', 'stage_norm')
        if isinstance(options.get(name), bool)
    }
    if not flags:
        return options
    warnings.warn(
        f'{", ".join(flags)} are deprecated; give stem, downsample and stage_norm as layers.',
        DeprecationWarning,
        stacklevel=3,
    )
    parts = {}
    if 'stage_norm' in flags:
        parts['stage_norm'] = nn.LayerNorm if flags['stage_norm'] else None
    if 'overlap' in flags:
        overlap = flags['overlap']
        sizes = dict(stem=(7, 4, 3), downsample=(3, 2, 1))
        if not overlap:
            sizes = dict(stem=(4, 4, 0), downsample=(2, 2, 0))
        for name, (patch_size, stride, padding) in sizes.items():
            parts[name] = partial(PatchEmbed, patch_size=patch_size, stride=stride, padding=padding)
    return {**parts, **options}
