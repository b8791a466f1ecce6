from __future__ import annotations

from functools import partial

from torch import nn

from ..layers import CrossShapedWindowAttention, Mlp, PatchEmbed
from ..registry import MODELS
from ..zoo import zoo_of
from .base import with_options
from .hierarchical import HierarchicalTransformer

#: CSWin Transformer (CVPR 2022), table 1.
CSWIN_ARCHS = {
    'tiny': dict(embed_dims=64, depths=(1, 2, 21, 1), num_heads=(2, 4, 8, 16)),
    'small': dict(embed_dims=64, depths=(2, 4, 32, 2), num_heads=(2, 4, 8, 16)),
    'base': dict(embed_dims=96, depths=(2, 4, 32, 2), num_heads=(4, 8, 16, 32)),
}
STRIPE_WIDTHS = (1, 2, 7, None)


@MODELS.register_module()
class CSWinTransformer(HierarchicalTransformer):
    """CSWin Transformer (Dong et al., CVPR 2022), with a LayerNorm after the last stage.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, or a dict as of
            :class:`HierarchicalTransformer`.
        **kwargs: See :class:`HierarchicalTransformer`; ``attention`` gives options of
            :class:`~mmeffvit.layers.CrossShapedWindowAttention`.
    """

    archs = CSWIN_ARCHS
    zoo = zoo_of('cswin', CSWIN_ARCHS)

    def __init__(self, arch: str | dict = 'tiny', **kwargs) -> None:
        parts = dict(
            stem=partial(PatchEmbed, patch_size=7, stride=4, padding=2),
            mlp=Mlp,
            stage_norm=[None, None, None, nn.LayerNorm],
            norm_eps=1e-5,
        )
        super().__init__(arch, **{**parts, **kwargs})

    def default_attentions(self, arch: dict, attention: dict) -> list[dict]:
        """Return cross-shaped window attention with the stripe width of each stage."""
        own = [dict(type=CrossShapedWindowAttention, stripe_width=width) for width in STRIPE_WIDTHS]
        return [with_options(config, attention) for config in own]
