from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ..layers import Mlp, PatchEmbed, PatchMerging, PositionEmbedding, WindowAttention
from ..registry import MODELS
from ..zoo import find_arch, zoo_of
from .base import AttentionConfig, with_options
from .hierarchical import HierarchicalTransformer

#: Swin Transformer (ICCV 2021), section 3.3.
SWIN_ARCHS = {
    'tiny': dict(embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
    'small': dict(embed_dims=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24)),
    'base': dict(embed_dims=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)),
    'large': dict(embed_dims=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48)),
}


@MODELS.register_module()
class SwinTransformer(HierarchicalTransformer):
    """Swin Transformer (Liu et al., ICCV 2021), with a LayerNorm per output.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, or a dict as of
            :class:`HierarchicalTransformer`.
        window_size (int | Sequence[int], optional): Side of the windows, or one per stage; 7 by
            default.
        position_size (int, optional): Image side of a position embedding after the stem; None for
            no embedding.
        shift_rule (str, optional): Whose shifts of windows are made where a map fits in one, see
            :class:`~mmeffvit.layers.WindowAttention`; ``'mmdet'`` by default.
        norm_eps (float): Epsilon of all norms.
        **kwargs: See :class:`HierarchicalTransformer`; ``attention`` gives options of
            :class:`~mmeffvit.layers.WindowAttention`.

    Raises:
        ValueError: If there is not one window size per stage.
    """

    archs = SWIN_ARCHS
    zoo = zoo_of('swin', SWIN_ARCHS)
    attention_options = ('window_size', 'shift_rule')

    def __init__(
        self,
        arch: str | dict = 'tiny',
        *,
        window_size: int | Sequence[int] | None = None,
        position_size: int | None = None,
        shift_rule: str | None = None,
        norm_eps: float = 1e-5,
        **kwargs,
    ) -> None:
        self.window_size = window_size
        self.shift_rule = shift_rule
        parts: dict[str, Any] = dict(
            stem=partial(PatchEmbed, patch_size=4, stride=4, init=None),
            downsample=partial(PatchMerging, norm_eps=norm_eps),
            mlp=Mlp,
            stage_norm=None,
            output_norm=nn.LayerNorm,
        )
        if position_size:
            table = partial(PositionEmbedding, grid=(position_size // 4,) * 2)
            later = [None] * (len(find_arch(SWIN_ARCHS, arch)['depths']) - 1)
            parts['position'] = [table, *later]
        super().__init__(arch, norm_eps=norm_eps, **{**parts, **kwargs})

    def default_attentions(self, arch: dict, attention: dict) -> list[AttentionConfig]:
        """Return window attention, with shifted windows in every second block."""
        depths, sizes = arch['depths'], self.window_size or 7
        sizes = [sizes] * len(depths) if isinstance(sizes, int) else sizes
        if len(sizes) != len(depths):
            raise ValueError(f'window_size={sizes} must hold one size per stage, {len(depths)}.')
        rule = self.shift_rule or 'mmdet'
        own = dict(type=WindowAttention, shift_rule=rule)
        return [
            [
                with_options(dict(own, window_size=size, shift=block % 2 == 1), attention)
                for block in range(depth)
            ]
            for depth, size in zip(depths, sizes)
        ]
