"""Slide-Transformers: Slide attention in the first stages of Swin, PVT, PVT v2 and CSWin.

With ``num_slide_stages=0`` each is its baseline, in the same code.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..layers.build import AttentionConfig
from ..registry import MODELS
from .base import find_arch, zoo_of
from .cswin import CSWIN_ARCHS, CSWinTransformer, stripe_attentions
from .pvt import PVT, PVT_ARCHS, PVTV2_ARCHS, PVTv2, spatial_reduction_attentions
from .swin import SWIN_ARCHS, SwinTransformer, window_attentions


def slide_first(
    baseline: Sequence[AttentionConfig], num_slide_stages: int, slide: dict | None = None
) -> list[AttentionConfig]:
    """Put Slide attention into the first stages of a baseline.

    Args:
        baseline (Sequence): The baseline's attention of each stage.
        num_slide_stages (int): How many stages get Slide attention in all their blocks.
        slide (dict, optional): Options of :class:`~mmeffvit.layers.SlideAttention`.

    Raises:
        ValueError: If there are fewer stages.
    """
    if not 0 <= num_slide_stages <= len(baseline):
        raise ValueError(f'num_slide_stages={num_slide_stages} must be in 0 .. {len(baseline)}.')
    first = [dict(type='SlideAttention', **(slide or {})) for _ in range(num_slide_stages)]
    return first + list(baseline[num_slide_stages:])


@MODELS.register_module()
class SlideSwin(SwinTransformer):
    """Slide-Swin (Pan et al., CVPR 2023).

    The authors' files ask for windows of 56 pixels, which makes the late stages' attention global
    at 224; their published FLOPs are those of 7, the default here. For the former, give
    ``window_size=(7, 7, 14, 7)``.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, ``'large'`` (ours), or the host's
            arguments.
        num_slide_stages (int): Stages with Slide attention; the others keep Swin's windows.
        window_size (int | Sequence[int]): Side of the windows, or one per stage.
        slide (dict, optional): Options of :class:`~mmeffvit.layers.SlideAttention`.
        **kwargs: See :class:`SwinTransformer`.
    """

    zoo = zoo_of('slide_swin', SWIN_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        num_slide_stages: int = 2,
        window_size: int | Sequence[int] = 7,
        slide: dict | None = None,
        **kwargs,
    ) -> None:
        arch = find_arch(SWIN_ARCHS, arch)
        windows = window_attentions(arch['depths'], window_size)
        host = dict(attentions=slide_first(windows, num_slide_stages, slide))
        super().__init__(arch, **{**host, **kwargs})


@MODELS.register_module()
class SlidePVT(PVT):
    """Slide-PVT (Pan et al., CVPR 2023).

    The authors' code has no such model. This composition (3x3 windows in all blocks of stages 1 and
    2) has their published parameters and FLOPs.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'medium'``, ``'large'``, or the host's
            arguments.
        num_slide_stages (int): Stages with Slide attention; the others keep PVT's.
        slide (dict, optional): Options of :class:`~mmeffvit.layers.SlideAttention`.
        **kwargs: See :class:`~mmeffvit.backbones.PyramidTransformer`.
    """

    zoo = zoo_of('slide_pvt', PVT_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        num_slide_stages: int = 2,
        slide: dict | None = None,
        **kwargs,
    ) -> None:
        attentions = slide_first(spatial_reduction_attentions(), num_slide_stages, slide)
        super().__init__(arch, **{**dict(attentions=attentions), **kwargs})


@MODELS.register_module()
class SlidePVTv2(PVTv2):
    """Slide-PVTv2 (Pan et al., CVPR 2023); composed as :class:`SlidePVT`.

    Args:
        arch (str | dict): ``'b0'`` .. ``'b5'``, or the host's arguments; ``'b0'`` and ``'b5'`` are
            ours.
        num_slide_stages (int): Stages with Slide attention; the others keep PVT's.
        slide (dict, optional): Options of :class:`~mmeffvit.layers.SlideAttention`.
        **kwargs: See :class:`~mmeffvit.backbones.PyramidTransformer`.
    """

    zoo = zoo_of('slide_pvtv2', PVTV2_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'b2',
        num_slide_stages: int = 2,
        slide: dict | None = None,
        **kwargs,
    ) -> None:
        attentions = slide_first(spatial_reduction_attentions(), num_slide_stages, slide)
        super().__init__(arch, **{**dict(attentions=attentions), **kwargs})


@MODELS.register_module()
class SlideCSwin(CSWinTransformer):
    """Slide-CSwin (Pan et al., CVPR 2023), inferred: which blocks the authors replaced is unknown.

    As in their other models, all blocks of the first two stages; parameters and FLOPs are then
    within 1 % of those published.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, or the host's arguments.
        num_slide_stages (int): Stages with Slide attention; the others keep CSWin's stripes.
        slide (dict, optional): Options of :class:`~mmeffvit.layers.SlideAttention`.
        **kwargs: See :class:`CSWinTransformer`.
    """

    zoo = zoo_of('slide_cswin', CSWIN_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        num_slide_stages: int = 2,
        slide: dict | None = None,
        **kwargs,
    ) -> None:
        attentions = slide_first(stripe_attentions(), num_slide_stages, slide)
        super().__init__(arch, **{**dict(attentions=attentions), **kwargs})
