"""Slide-Transformer (Pan et al., CVPR 2023): Swin, PVT, PVT v2, CSWin, NAT with Slide attention.

``num_slide_stages=0`` gives the baselines.
"""

from __future__ import annotations

from ..layers import SlideAttention
from ..layers.deprecated import adopt_options
from ..registry import MODELS
from ..zoo import zoo_of
from .base import AttentionConfig, with_options
from .cswin import CSWIN_ARCHS, CSWinTransformer
from .hierarchical import HierarchicalTransformer
from .nat import NAT, NAT_ARCHS
from .pvt import PVT, PVT_ARCHS, PVTV2_ARCHS, PVTv2
from .swin import SWIN_ARCHS, SwinTransformer


class SlideFirst(HierarchicalTransformer):
    """Mixin that replaces the attention of the first stages by Slide attention.

    Args:
        *args: See the baseline.
        num_slide_stages (int, optional): Number of stages, from the first, whose blocks have Slide
            attention; 2 by default.
        **kwargs: See the baseline; ``attention`` gives options of
            :class:`~mmeffvit.layers.SlideAttention`.

    Raises:
        ValueError: If ``num_slide_stages`` exceeds the number of stages.
    """

    attention_options = ('num_slide_stages',)

    def __init__(self, *args, num_slide_stages: int | None = None, **kwargs) -> None:
        self.num_slide_stages = num_slide_stages
        if 'slide' in kwargs:
            slide = kwargs.pop('slide') or {}
            kwargs = adopt_options({**kwargs, **slide}, *slide)
        super().__init__(*args, **kwargs)

    def default_attentions(self, arch: dict, attention: dict) -> list[AttentionConfig]:
        """Return Slide attention for the first stages, then the attention of the baseline."""
        baseline = super().default_attentions(arch, {})
        count = 2 if self.num_slide_stages is None else self.num_slide_stages
        if not 0 <= count <= len(baseline):
            raise ValueError(f'num_slide_stages={count} must be in 0 .. {len(baseline)}.')
        slide = with_options(dict(type=SlideAttention), attention)
        return [slide] * count + list(baseline[count:])


@MODELS.register_module()
class SlideSwin(SlideFirst, SwinTransformer):
    """Slide-Swin (Pan et al., CVPR 2023).

    The authors' configs set windows of 56, with which attention in the late stages is global at 224
    pixels; their published FLOPs are those of 7, the default here. ``window_size=(7, 7, 14, 7)``
    is equivalent to their configs. ``'large'`` is ours.

    See :class:`SlideFirst` and :class:`SwinTransformer` for the arguments.
    """

    zoo = zoo_of('slide_swin', SWIN_ARCHS)
    attention_options = ('num_slide_stages', 'window_size', 'shift_rule')


@MODELS.register_module()
class SlidePVT(SlideFirst, PVT):
    """Slide-PVT (Pan et al., CVPR 2023).

    Not part of the authors' code. With 3x3 windows in all blocks of stages 1 and 2, as here,
    parameters and FLOPs are those published.

    See :class:`SlideFirst` and :class:`PVT` for the arguments.
    """

    zoo = zoo_of('slide_pvt', PVT_ARCHS)


@MODELS.register_module()
class SlidePVTv2(SlideFirst, PVTv2):
    """Slide-PVTv2 (Pan et al., CVPR 2023), composed as :class:`SlidePVT`.

    ``'b0'`` and ``'b5'`` are ours. See :class:`SlideFirst` and :class:`PVTv2` for the arguments.
    """

    zoo = zoo_of('slide_pvtv2', PVTV2_ARCHS)


@MODELS.register_module()
class SlideCSwin(SlideFirst, CSWinTransformer):
    """Slide-CSwin (Pan et al., CVPR 2023), inferred, as the replaced blocks were not published.

    As in the other models, all blocks of the first two stages have Slide attention; parameters and
    FLOPs are then within 1 % of those published.

    See :class:`SlideFirst` and :class:`CSWinTransformer` for the arguments.
    """

    zoo = zoo_of('slide_cswin', CSWIN_ARCHS)


@MODELS.register_module()
class SlideNAT(SlideFirst, NAT):
    """Slide-NAT (Pan et al., CVPR 2023), inferred: which blocks the authors replaced is unknown.

    As in their other models, all blocks of the first two stages, with 3x3 windows; parameters and
    FLOPs are then within 2 % of those published. ``'base'`` is ours.

    See :class:`SlideFirst` and :class:`NAT` for the arguments.
    """

    zoo = zoo_of('slide_nat', NAT_ARCHS)
    attention_options = ('num_slide_stages', 'dilations')
