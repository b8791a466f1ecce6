from __future__ import annotations

from ..layers import drop_path_schedule
from ..layers.deprecated import adopt_options
from ..layers.lightvit import LightViTBlock
from ..registry import MODELS
from ..zoo import find_arch, zoo_of
from .two_stream import TwoStreamTransformer

#: LightViT (arXiv 2207.05557), table 1.
LIGHTVIT_ARCHS = {
    'tiny': dict(embed_dims=(64, 128, 256), depths=(2, 6, 6), num_heads=(2, 4, 8), num_tokens=8),
    'small': dict(embed_dims=(96, 192, 384), depths=(2, 6, 6), num_heads=(3, 6, 12), num_tokens=16),
    'base': dict(embed_dims=(128, 256, 512), depths=(3, 8, 6), num_heads=(4, 8, 16), num_tokens=24),
}
MLP_RATIOS = (8, 4, 4)


@MODELS.register_module()
class LightViT(TwoStreamTransformer):
    """LightViT: window attention and attention to a few learned global tokens.

    The baseline of DualToken-ViT.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, or a dict of ``embed_dims``,
            ``depths``, ``num_heads`` for three stages and ``num_tokens``.
        num_tokens (int, optional): Number of global tokens; that of the arch by default: 8, 16, 24.
        attention (dict, optional): Options of :class:`~mmeffvit.layers.LightViTAttention`.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of block and output norms.
        with_cp (bool | str): What to recompute in backward: ``'mlp'``, or ``'all'`` (or True).
        **kwargs: See :class:`TwoStreamTransformer`.

    Raises:
        ValueError: If ``num_tokens`` is not positive.

    Source: Huang et al., "LightViT: Towards Light-Weight Convolution-Free Vision Transformers"
    (arXiv 2207.05557).
    """

    archs = LIGHTVIT_ARCHS
    zoo = zoo_of('lightvit', LIGHTVIT_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        *,
        num_tokens: int | None = None,
        attention: dict | None = None,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        with_cp: bool | str = False,
        **kwargs,
    ) -> None:
        arch = find_arch(self.archs, arch)
        num_tokens = arch.get('num_tokens', 8) if num_tokens is None else num_tokens
        if num_tokens < 1:
            raise ValueError(f'num_tokens={num_tokens} must be at least 1.')
        kwargs = adopt_options(dict(kwargs, attention=attention), 'window_size')
        attention = kwargs.pop('attention') or {}
        drop_rates = iter(drop_path_schedule(drop_path_rate, sum(arch['depths'])))
        blocks = [
            [
                LightViTBlock(
                    embed_dims,
                    num_heads,
                    mlp_ratio,
                    next(drop_rates),
                    norm_eps,
                    with_cp,
                    **attention,
                )
                for _ in range(depth)
            ]
            for embed_dims, depth, num_heads, mlp_ratio in zip(
                arch['embed_dims'], arch['depths'], arch['num_heads'], MLP_RATIOS
            )
        ]
        # What the last global tokens hold is read by a classifier only.
        blocks[-1][-1].gates_tokens = kwargs.get('out_type') == 'raw'
        super().__init__(blocks, arch['embed_dims'], num_tokens, norm_eps=norm_eps, **kwargs)
