from __future__ import annotations

from ..layers import drop_path_schedule
from ..layers.dualtoken import DualTokenBlock
from ..registry import MODELS
from .base import find_arch, zoo_of
from .two_stream import TwoStreamTransformer

_SHARED = dict(
    num_heads=(2, 4, 8), mlp_ratios=(8, 4, 4), kernel_sizes=(5, 7, 7), pool_steps=(2, 1, 0)
)

#: DualToken-ViT-T and -S.
DUALTOKEN_ARCHS = {
    'tiny': dict(embed_dims=(48, 96, 192), depths=(2, 6, 4)),
    'small': dict(embed_dims=(64, 128, 256), depths=(2, 6, 6)),
}


@MODELS.register_module()
class DualTokenViT(TwoStreamTransformer):
    """DualToken-ViT (Chu et al., "Position-aware Efficient Vision Transformer", arXiv 2309.12424).

    Image tokens and a learned grid of position-aware global tokens update each other in every
    block. The global tokens keep their number at any image size.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, or a dict of ``embed_dims`` and ``depths``
            of three stages and, optionally, their ``num_heads``, ``mlp_ratios``, ``kernel_sizes``
            of the conv encoder and ``pool_steps`` (halvings before the aggregation; 0: no local
            branch).
        token_mlp (str, optional): MLP of the global tokens: ``'mix'``, ``'mlp'`` (table 2) or None.
        token_size (int | tuple[int, int]): Grid of the global tokens (table 7); 0 for none. With
            ``'mix'`` weights depend on it.
        alpha (float): Weight of the global tokens against the image in their update.
        local (str): Local branch of the first two stages, ``'conv'`` or ``'window'`` (table 8).
        stepwise (bool): Pool step by step with convolutions between, or at once (table 9).
        global_tokens (str): ``'position_aware'``, or table 6's ``'normal'`` and ``'combined'``, for
            which the paper has 8 tokens, ``token_size=(1, 8)``, and ``token_mlp='mlp'``.
        window_size (int): Window of ``local='window'``.
        layer_scale_init (float): Initial layer scale of the conv encoder.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of block and output norms.
        with_cp (bool | str): What to recompute in backward: ``'mlp'``, or ``'all'`` (or True).
        **kwargs: See :class:`TwoStreamTransformer`.

    Raises:
        ValueError: If an option has no such value.
    """

    zoo = zoo_of('dualtoken', DUALTOKEN_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        *,
        token_mlp: str | None = 'mix',
        token_size: int | tuple[int, int] = 7,
        alpha: float = 0.1,
        local: str = 'conv',
        stepwise: bool = True,
        global_tokens: str = 'position_aware',
        window_size: int = 7,
        layer_scale_init: float = 1e-6,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        with_cp: bool | str = False,
        **kwargs,
    ) -> None:
        arch = {**_SHARED, **find_arch(DUALTOKEN_ARCHS, arch)}
        if isinstance(token_size, int):
            token_size = (token_size, token_size)
        num_tokens = token_size[0] * token_size[1]
        if num_tokens == 0 and global_tokens != 'position_aware':
            raise ValueError(f'token_size={token_size} leaves no global tokens to query the image.')
        options = dict(
            token_mlp=token_mlp,
            token_size=token_size,
            alpha=alpha,
            local=local,
            stepwise=stepwise,
            global_tokens=global_tokens,
            window_size=window_size,
            layer_scale_init=layer_scale_init,
            norm_eps=norm_eps,
            with_cp=with_cp,
        )
        drop_rates = iter(drop_path_schedule(drop_path_rate, sum(arch['depths'])))
        blocks = [
            [
                DualTokenBlock(
                    arch['embed_dims'][i],
                    arch['num_heads'][i],
                    arch['mlp_ratios'][i],
                    next(drop_rates),
                    pool_steps=arch['pool_steps'][i],
                    kernel_size=arch['kernel_sizes'][i],
                    **options,
                )
                for _ in range(depth)
            ]
            for i, depth in enumerate(arch['depths'])
        ]
        super().__init__(blocks, arch['embed_dims'], num_tokens, norm_eps=norm_eps, **kwargs)
        self.token_size = tuple(token_size)
