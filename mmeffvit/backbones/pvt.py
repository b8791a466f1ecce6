from __future__ import annotations

from functools import partial
from typing import Any

from ..layers import Mlp, PatchEmbed, PositionEmbedding, SpatialReductionAttention
from ..registry import MODELS
from ..zoo import zoo_of
from .base import with_options
from .hierarchical import HierarchicalTransformer

_RATIOS = dict(mlp_ratios=(8, 8, 4, 4), sr_ratios=(8, 4, 2, 1))
_WIDE = dict(_RATIOS, embed_dims=(64, 128, 320, 512), num_heads=(1, 2, 5, 8))
_NARROW = dict(_RATIOS, embed_dims=(32, 64, 160, 256), num_heads=(1, 2, 5, 8))

#: PVT (ICCV 2021), table 1.
PVT_ARCHS = {
    'tiny': dict(_WIDE, depths=(2, 2, 2, 2)),
    'small': dict(_WIDE, depths=(3, 4, 6, 3)),
    'medium': dict(_WIDE, depths=(3, 4, 18, 3)),
    'large': dict(_WIDE, depths=(3, 8, 27, 3)),
}

#: PVT v2 (2022), table 1.
PVTV2_ARCHS = {
    'b0': dict(_NARROW, depths=(2, 2, 2, 2)),
    'b1': dict(_WIDE, depths=(2, 2, 2, 2)),
    'b2': dict(_WIDE, depths=(3, 4, 6, 3)),
    'b3': dict(_WIDE, depths=(3, 4, 18, 3)),
    'b4': dict(_WIDE, depths=(3, 8, 27, 3)),
    'b5': dict(_WIDE, mlp_ratios=(4, 4, 4, 4), depths=(3, 6, 40, 3)),
}

#: Mix Transformer encoders, SegFormer (NeurIPS 2021), appendix.
MIT_ARCHS = {name: dict(arch, mlp_ratios=(4, 4, 4, 4)) for name, arch in PVTV2_ARCHS.items()}


@MODELS.register_module()
class PVTv2(HierarchicalTransformer):
    """PVT v2 (Wang et al., Computational Visual Media 2022).

    Args:
        arch (str | dict): ``'b0'`` .. ``'b5'``, or a dict as of :class:`HierarchicalTransformer`
            with, optionally, ``sr_ratios`` of the stages.
        **kwargs: See :class:`HierarchicalTransformer`; ``attention`` gives options of
            :class:`~mmeffvit.layers.SpatialReductionAttention`.
    """

    archs = PVTV2_ARCHS
    zoo = zoo_of('pvtv2', PVTV2_ARCHS)

    def __init__(self, arch: str | dict = 'b2', **kwargs) -> None:
        super().__init__(arch, **kwargs)

    def default_attentions(self, arch: dict, attention: dict) -> list[dict]:
        """Return spatial-reduction attention with the reduction ratio of each stage."""
        ratios = arch.get('sr_ratios', _RATIOS['sr_ratios'])
        own = [dict(type=SpatialReductionAttention, sr_ratio=ratio) for ratio in ratios]
        return [with_options(config, attention) for config in own]


@MODELS.register_module()
class MixVisionTransformer(PVTv2):
    """Mix Transformer encoder (MiT) of SegFormer (Xie et al., NeurIPS 2021): PVTv2's network.

    Its sizes have an MLP ratio of 4 in every stage. Epsilons are those of the authors' code;
    mmseg's differ, which a converted config says.

    Args:
        arch (str | dict): ``'b0'`` .. ``'b5'``, or a dict as of :class:`PVTv2`.
        **kwargs: See :class:`PVTv2`.
    """

    archs = MIT_ARCHS
    zoo = zoo_of('mit', MIT_ARCHS)


@MODELS.register_module()
class PVT(PVTv2):
    """Pyramid Vision Transformer (Wang et al., ICCV 2021), without its class token.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'medium'``, ``'large'``, or a dict as of
            :class:`PVTv2`.
        position_size (int, optional): Image side of the position embeddings, one per stage, which
            are interpolated to the grid of every input. None for no embedding.
        **kwargs: See :class:`PVTv2`.
    """

    archs = PVT_ARCHS
    zoo = zoo_of('pvt', PVT_ARCHS)

    def __init__(
        self, arch: str | dict = 'tiny', *, position_size: int | None = 224, **kwargs
    ) -> None:
        parts: dict[str, Any] = dict(
            stem=partial(PatchEmbed, patch_size=4, stride=4, init=None),
            downsample=partial(PatchEmbed, patch_size=2, stride=2, init=None),
            mlp=Mlp,
            stage_norm=None,
        )
        if position_size:
            grids = [(position_size >> shift,) * 2 for shift in (2, 3, 4, 5)]
            parts['position'] = [
                partial(PositionEmbedding, grid=grid, mode='bilinear') for grid in grids
            ]
        super().__init__(arch, **{**parts, **kwargs})
        for module in self.modules():
            if isinstance(module, SpatialReductionAttention) and module.sr_ratio > 1:
                module.sr.reset_parameters()  # torch's initialiser, as in the authors' code
