from __future__ import annotations

from ..layers import drop_path_schedule
from ..layers.deprecated import adopt_options
from ..layers.dualtoken import DualTokenBlock
from ..registry import MODELS
from ..zoo import find_arch, zoo_of
from .two_stream import TwoStreamTransformer

_SHARED = dict(
    num_heads=(2, 4, 8), mlp_ratios=(8, 4, 4), kernel_sizes=(5, 7, 7), pool_steps=(2, 1, 0)
)

#: DualToken-ViT-T and -S.
DUALTOKEN_ARCHS = {
    'tiny': dict(embed_dims=(48, 96, 192), depths=(2, 6, 4)),
    'small': dict(embed_dims=(64, 128, 256), depths=(2, 6, 6)),
}

#: Arguments of version 0.1 that are options of the attention layer now.
ATTENTION_OPTIONS = (
    'token_mlp',
    'token_size',
    'alpha',
    'local',
    'stepwise',
    'global_tokens',
    'window_size',
    'layer_scale_init',
)


@MODELS.register_module()
class DualTokenViT(TwoStreamTransformer):
    """DualToken-ViT: image tokens and position-aware global tokens that update each other.

    The number of global tokens does not depend on the image size.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, or a dict of ``embed_dims`` and ``depths``
            of three stages and, optionally, their ``num_heads``, ``mlp_ratios``, ``kernel_sizes``
            of the convolutional encoder and ``pool_steps`` (2x2 poolings before the aggregation;
            0: no local encoder).
        attention (dict, optional): Options of :class:`~mmeffvit.layers.DualTokenAttention`. With
            the default ``token_mlp='mix'``, ``token_size`` changes parameter shapes; the paper's S
            has ``token_mlp='mlp'``.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of block and output norms.
        with_cp (bool | str): What to recompute in backward: ``'mlp'``, or ``'all'`` (or True).
        **kwargs: See :class:`TwoStreamTransformer`.

    Raises:
        ValueError: If an option is not one of the allowed values.

    Source: Chu et al., "DualToken-ViT: Position-aware Efficient Vision Transformer with Dual Token
    Fusion" (arXiv 2309.12424).
    """

    archs = DUALTOKEN_ARCHS
    zoo = zoo_of('dualtoken', DUALTOKEN_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        *,
        attention: dict | None = None,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        with_cp: bool | str = False,
        **kwargs,
    ) -> None:
        kwargs = adopt_options(dict(kwargs, attention=attention), *ATTENTION_OPTIONS)
        attention = kwargs.pop('attention') or {}
        arch = {**_SHARED, **find_arch(self.archs, arch)}
        drop_rates = iter(drop_path_schedule(drop_path_rate, sum(arch['depths'])))
        blocks = [
            [
                DualTokenBlock(
                    arch['embed_dims'][i],
                    arch['num_heads'][i],
                    arch['mlp_ratios'][i],
                    next(drop_rates),
                    norm_eps,
                    with_cp,
                    pool_steps=arch['pool_steps'][i],
                    **{'kernel_size': arch['kernel_sizes'][i], **attention},
                )
                for _ in range(depth)
            ]
            for i, depth in enumerate(arch['depths'])
        ]
        token_size = blocks[0][0].attn.token_size
        num_tokens = token_size[0] * token_size[1]
        super().__init__(blocks, arch['embed_dims'], num_tokens, norm_eps=norm_eps, **kwargs)
