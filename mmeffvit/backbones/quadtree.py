from __future__ import annotations

from ..layers import QuadTreeAttention
from ..layers.deprecated import adopt_options
from ..registry import MODELS
from ..zoo import zoo_of
from .base import with_options
from .pvt import PVTV2_ARCHS, PVTv2

#: Pyramid levels per stage; the coarsest grid of every stage has stride 32.
LEVELS = (4, 3, 2, 1)


@MODELS.register_module()
class QuadTreeTransformer(PVTv2):
    """PVTv2 with QuadTree attention in every stage (Tang et al., ICLR 2022).

    Args:
        arch (str | dict): ``'b0'`` .. ``'b4'`` as published; ``'b5'``, with the sizes of PVTv2-B5,
            is ours. Or a dict as of :class:`HierarchicalTransformer`.
        **kwargs: See :class:`HierarchicalTransformer`; ``attention`` gives options of
            :class:`~mmeffvit.layers.QuadTreeAttention`. The authors use ``topks=8`` and
            ``value_act='gelu'`` for classification, ``topks=32`` and ``value_act='relu'`` for
            detection and segmentation.
    """

    zoo = zoo_of('quadtree', PVTV2_ARCHS)

    def __init__(self, arch: str | dict = 'b2', **kwargs) -> None:
        old = ('kind', 'topks', 'value_act', 'drop_lone_level')
        super().__init__(arch, **adopt_options(kwargs, *old))

    def default_attentions(self, arch: dict, attention: dict) -> list[dict]:
        """Return QuadTree attention with the number of levels of each stage."""
        own = [dict(type=QuadTreeAttention, levels=levels) for levels in LEVELS]
        return [with_options(config, attention) for config in own]
