"""Neighborhood Attention Transformers, NAT and its dilated form DiNAT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from ..layers import ConvDownsampler, ConvTokenizer, Mlp, NeighborhoodAttention, TransformerBlock
from ..registry import MODELS
from ..zoo import find_arch, zoo_of
from .base import AttentionConfig, with_options
from .hierarchical import HierarchicalTransformer

_DEEP = dict(depths=(3, 4, 18, 5))
_SCALED = dict(_DEEP, mlp_ratios=(2, 2, 2, 2), layer_scale=1e-5)

#: NAT (CVPR 2023), table 1.
NAT_ARCHS = {
    'mini': dict(
        embed_dims=64, depths=(3, 4, 6, 5), num_heads=(2, 4, 8, 16), mlp_ratios=(3, 3, 3, 3)
    ),
    'tiny': dict(_DEEP, embed_dims=64, num_heads=(2, 4, 8, 16), mlp_ratios=(3, 3, 3, 3)),
    'small': dict(_SCALED, embed_dims=96, num_heads=(3, 6, 12, 24)),
    'base': dict(_SCALED, embed_dims=128, num_heads=(4, 8, 16, 32)),
}


@MODELS.register_module()
class NAT(HierarchicalTransformer):
    """Neighborhood Attention Transformer (Hassani et al., CVPR 2023).

    Each output has its own norm.

    Args:
        arch (str | dict): ``'mini'``, ``'tiny'``, ``'small'``, ``'base'``, or a dict as of
            :class:`HierarchicalTransformer` with, optionally, ``layer_scale``, the initial value
            of the scales of both residual branches.
        dilations (Sequence[int], optional): Dilation of every second block of each stage; 1 by
            default.
        **kwargs: See :class:`HierarchicalTransformer`; ``attention`` gives options of
            :class:`~mmeffvit.layers.NeighborhoodAttention`.

    Raises:
        ValueError: If there is not one dilation per stage.
    """

    archs = NAT_ARCHS
    zoo = zoo_of('nat', NAT_ARCHS)
    attention_options = ('dilations',)

    def __init__(
        self, arch: str | dict = 'tiny', *, dilations: Sequence[int] | None = None, **kwargs
    ) -> None:
        self.dilations = dilations
        layer_scale = find_arch(NAT_ARCHS, arch).get('layer_scale')
        parts = dict(
            stem=ConvTokenizer,
            downsample=ConvDownsampler,
            block=partial(TransformerBlock, layer_scale=layer_scale),
            mlp=Mlp,
            stage_norm=None,
            output_norm=nn.LayerNorm,
            norm_eps=1e-5,
        )
        super().__init__(arch, **{**parts, **kwargs})

    def default_attentions(self, arch: dict, attention: dict) -> list[AttentionConfig]:
        """Neighborhood attention, dilated in every second block."""
        depths, dilations = arch['depths'], self.dilations or [1] * len(arch['depths'])
        if len(dilations) != len(depths):
            raise ValueError(f'dilations={dilations} must hold one per stage, {len(depths)}.')
        own = [
            [dict(type=NeighborhoodAttention, dilation=d if i % 2 else 1) for i in range(depth)]
            for depth, d in zip(depths, dilations)
        ]
        return [[with_options(config, attention) for config in stage] for stage in own]


@MODELS.register_module()
class DiNAT(NAT):
    """Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022).

    With the default dilations the windows of dilated blocks reach over the whole map of an image of
    224 pixels; larger images allow larger ones.

    See :class:`NAT` for the arguments.
    """

    zoo = zoo_of('dinat', NAT_ARCHS)

    def __init__(
        self, arch: str | dict = 'tiny', *, dilations: Sequence[int] | None = None, **kwargs
    ) -> None:
        if dilations is None and kwargs.get('attentions') is None:
            dilations = (8, 4, 2, 1)[: len(find_arch(NAT_ARCHS, arch)['depths'])]
        super().__init__(arch, dilations=dilations, **kwargs)
