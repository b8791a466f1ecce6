from __future__ import annotations

from ..registry import MODELS
from .base import find_arch, zoo_of
from .pyramid import PyramidTransformer

_WIDE = dict(embed_dims=(64, 128, 320, 512), num_heads=(1, 2, 5, 8))
_NARROW = dict(embed_dims=(32, 64, 160, 256), num_heads=(1, 2, 5, 8))
_RATIOS = dict(mlp_ratios=(8, 8, 4, 4))

#: PVT (ICCV 2021), table 1.
PVT_ARCHS = {
    'tiny': dict(_WIDE, **_RATIOS, depths=(2, 2, 2, 2)),
    'small': dict(_WIDE, **_RATIOS, depths=(3, 4, 6, 3)),
    'medium': dict(_WIDE, **_RATIOS, depths=(3, 4, 18, 3)),
    'large': dict(_WIDE, **_RATIOS, depths=(3, 8, 27, 3)),
}

#: PVT v2 (2022), table 1.
PVTV2_ARCHS = {
    'b0': dict(_NARROW, **_RATIOS, depths=(2, 2, 2, 2)),
    'b1': dict(_WIDE, **_RATIOS, depths=(2, 2, 2, 2)),
    'b2': dict(_WIDE, **_RATIOS, depths=(3, 4, 6, 3)),
    'b3': dict(_WIDE, **_RATIOS, depths=(3, 4, 18, 3)),
    'b4': dict(_WIDE, **_RATIOS, depths=(3, 8, 27, 3)),
    'b5': dict(_WIDE, mlp_ratios=(4, 4, 4, 4), depths=(3, 6, 40, 3)),
}

SR_RATIOS = (8, 4, 2, 1)


def spatial_reduction_attentions(sr_ratios: tuple[int, ...] = SR_RATIOS) -> list[dict]:
    """PVT's attention of each stage."""
    return [dict(type='SpatialReductionAttention', sr_ratio=ratio) for ratio in sr_ratios]


@MODELS.register_module()
class PVT(PyramidTransformer):
    """Pyramid Vision Transformer (Wang et al., ICCV 2021), without its class token.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'medium'``, ``'large'``, or the host's
            arguments ``embed_dims``, ``depths``, ``num_heads``, ``mlp_ratios``.
        **kwargs: See :class:`PyramidTransformer`.
    """

    zoo = zoo_of('pvt', PVT_ARCHS)

    def __init__(self, arch: str | dict = 'tiny', **kwargs) -> None:
        host = dict(
            attentions=spatial_reduction_attentions(),
            overlap=False,
            mlp='Mlp',
            position_size=224,
            stage_norm=False,
        )
        super().__init__(**find_arch(PVT_ARCHS, arch), **{**host, **kwargs})


@MODELS.register_module()
class PVTv2(PyramidTransformer):
    """PVT v2 (Wang et al., Computational Visual Media 2022).

    Args:
        arch (str | dict): ``'b0'`` .. ``'b5'``, or the host's arguments ``embed_dims``,
            ``depths``, ``num_heads``, ``mlp_ratios``.
        **kwargs: See :class:`PyramidTransformer`.
    """

    zoo = zoo_of('pvtv2', PVTV2_ARCHS)

    def __init__(self, arch: str | dict = 'b2', **kwargs) -> None:
        host = dict(attentions=spatial_reduction_attentions())
        super().__init__(**find_arch(PVTV2_ARCHS, arch), **{**host, **kwargs})
