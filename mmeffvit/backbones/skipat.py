from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from ..layers import SkipAttention
from ..layers.deprecated import adopt_options
from ..registry import MODELS
from ..zoo import zoo_of
from .base import with_options
from .pvt import PVT, PVT_ARCHS
from .vit import VIT_ARCHS, VisionTransformer

INITS = ('vit', 'official')
#: Arguments of version 0.1.
PHI_OPTIONS = ('phi_type', 'phi_kernel', 'phi_ratio', 'eca_kernel')


@MODELS.register_module()
class SkipAtViT(VisionTransformer):
    """Vision Transformer that skips attention in some blocks (Venkataramanan et al., ICLR 2024).

    A skipped block has neither the first LayerNorm nor attention: Φ estimates its attention output
    from that of the previous block, skipped or not.

    Args:
        arch (str | dict): See :class:`VisionTransformer`.
        skip_layers (Collection[int], optional): Indices of the blocks to skip, from 0; not block 0.
            By default ``depth // 4`` to ``3 * depth // 4 - 1``: 3 to 8 of 12 as published, and our
            choice for other depths. ``()`` is the plain ViT.
        init (str): Initialisation of the blocks' linear layers: ``'vit'`` is DeiT's truncated
            normal; ``'official'`` is PyTorch's default, as in the authors' code.
        **kwargs: See :class:`VisionTransformer`; ``attention`` gives options of the skipped
            blocks' :class:`~mmeffvit.layers.SkipAttention`.

    Raises:
        ValueError: If ``skip_layers`` contains block 0 or an index that does not exist, or ``init``
            is not one of the allowed values.
    """

    zoo = zoo_of('skipat', VIT_ARCHS)
    attention_options = ('skip_layers',)

    def __init__(
        self,
        arch: str | dict = 'small',
        skip_layers: Collection[int] | None = None,
        *,
        init: str = 'vit',
        **kwargs,
    ) -> None:
        if init not in INITS:
            raise ValueError(f'init={init!r} must be one of {INITS}.')
        self.skip_layers = skip_layers
        super().__init__(arch, **adopt_options(kwargs, *PHI_OPTIONS))
        if init == 'official':
            for module in self.blocks.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()

    def default_attentions(self, arch: dict, attention: dict) -> list[dict]:
        """Return softmax attention, and Φ for skipped blocks."""
        depth, skipped = arch['depth'], self.skip_layers
        if skipped is None:
            skipped = range(depth // 4, 3 * depth // 4)
        phi = with_options(dict(type=SkipAttention), attention)
        return _with_skipped(super().default_attentions(arch, {}), skipped, phi)


@MODELS.register_module()
class SkipAtPVT(PVT):
    """Pyramid Vision Transformer that skips attention in some blocks of each stage.

    The first block of every stage attends. The paper applies SkipAt to PVT but does not say to
    which blocks: these and the width of Φ are our choice (``phi_ratio=1``; with 2, as in ViT, Φ
    would cost more than spatial-reduction attention at 224 pixels).

    Args:
        arch (str | dict): See :class:`PVT`.
        skip_layers (Sequence[Collection[int]], optional): Indices of the blocks to skip per stage,
            from 0. By default ``max(1, depth // 4)`` to ``3 * depth // 4 - 1``; none of two blocks.
        **kwargs: See :class:`PVT`; ``attention`` gives options of the skipped blocks'
            :class:`~mmeffvit.layers.SkipAttention`.

    Raises:
        ValueError: If ``skip_layers`` contains block 0 of a stage or an index that does not exist.
    """

    zoo = zoo_of('skipat_pvt', PVT_ARCHS)
    attention_options = ('skip_layers',)

    def __init__(
        self,
        arch: str | dict = 'small',
        skip_layers: Sequence[Collection[int]] | None = None,
        **kwargs,
    ) -> None:
        self.skip_layers = skip_layers
        super().__init__(arch, **adopt_options(kwargs, *PHI_OPTIONS))

    def default_attentions(self, arch: dict, attention: dict) -> list[list[dict]]:
        """Return spatial-reduction attention, and Φ for skipped blocks."""
        depths, skipped = arch['depths'], self.skip_layers
        if skipped is None:
            skipped = [range(max(1, depth // 4), 3 * depth // 4) for depth in depths]
        phi = with_options(dict(type=SkipAttention, phi_ratio=1.0), attention)
        stages = zip(super().default_attentions(arch, {}), depths, skipped, strict=True)
        return [_with_skipped([own] * depth, blocks, phi) for own, depth, blocks in stages]


def _with_skipped(attentions: list[dict], skip_layers: Collection[int], phi: dict) -> list[dict]:
    """Return one config per block, that of Φ for skipped ones."""
    depth = len(attentions)
    wrong = [i for i in skip_layers if not 0 <= i < depth]
    if wrong:
        raise ValueError(f'skip_layers has {wrong[0]}; the blocks are 0 .. {depth - 1}.')
    return [phi if i in skip_layers else own for i, own in enumerate(attentions)]
