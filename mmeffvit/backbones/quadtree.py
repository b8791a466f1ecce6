from __future__ import annotations

from collections.abc import Sequence

from ..registry import MODELS
from .base import find_arch, zoo_of
from .pvt import PVTV2_ARCHS
from .pyramid import PyramidTransformer

#: Pyramid levels per stage: the coarsest grid of every stage is that of stride 32.
LEVELS = (4, 3, 2, 1)


@MODELS.register_module()
class QuadTreeTransformer(PyramidTransformer):
    """PVTv2 with QuadTree attention in every stage (Tang et al., ICLR 2022).

    Args:
        arch (str | dict): ``'b0'`` .. ``'b4'`` as published; ``'b5'`` (PVTv2-b5's shape) is our
            inference, the authors have none. A dict gives the host's arguments.
        kind (str): ``'B'`` as in all published models but one, or ``'A'``.
        topks (int | Sequence[int]): Keys kept per query and level, coarsest first. The authors use
            8 for classification and 32 for detection and segmentation; no weight depends on it.
        value_act (str): ``'gelu'`` in the authors' classification code, ``'relu'`` in their
            detection and segmentation code. Which one a released file needs is not documented; its
            accuracy tells.
        drop_lone_level (bool): Reproduce a flaw of the authors' kind ``'A'`` in stage 4; see
            :class:`~mmeffvit.layers.QuadTreeAttention`.
        **kwargs: See :class:`PyramidTransformer`.
    """

    zoo = zoo_of('quadtree', PVTV2_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'b2',
        kind: str = 'B',
        topks: int | Sequence[int] = 8,
        value_act: str = 'gelu',
        drop_lone_level: bool = False,
        **kwargs,
    ) -> None:
        attention = dict(
            type='QuadTreeAttention',
            kind=kind,
            topks=topks,
            value_act=value_act,
            drop_lone_level=drop_lone_level,
        )
        host = dict(attentions=[dict(attention, levels=levels) for levels in LEVELS])
        super().__init__(**find_arch(PVTV2_ARCHS, arch), **{**host, **kwargs})
