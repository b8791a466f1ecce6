from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from ..layers import SkipAttention
from ..layers.build import adopt_options, with_options
from ..registry import MODELS
from ..zoo import zoo_of
from .pvt import PVT, PVT_ARCHS
from .vit import VIT_ARCHS, VisionTransformer

INITS = ('vit', 'official')
#: Arguments of version 0.1.
PHI_OPTIONS = ('phi_type', 'phi_kernel', 'phi_ratio', 'eca_kernel')


@MODELS.register_module()
class SkipAtViT(VisionTransformer):
    """Vision Transformer that skips attention in some blocks (Venkataramanan et al., ICLR 2024).

    A skipped block has neither LayerNorm nor attention: Φ maps the attention output of the block
    before it, skipped or not, to an estimate of its own. Every block that attends starts a new
    chain.

    Args:
        arch (str | dict): See :class:`VisionTransformer`.
        skip_layers (Collection[int], optional): Blocks to skip, counted from 0; runs may start
            anywhere but at block 0. By default the middle half, ``depth // 4`` up to
            ``3 * depth // 4``: 3 to 8 of 12 as published, and our choice for other depths. ``()``
            is the plain ViT.
        init (str): Linear layers of the blocks: ``'vit'`` is DeiT's truncated normal;
            ``'official'`` is PyTorch's default, with which the authors' models were trained.
        **kwargs: See :class:`VisionTransformer`; ``attention`` gives options of the skipped
            blocks' :class:`~mmeffvit.layers.SkipAttention`.

    Raises:
        ValueError: If ``skip_layers`` are not blocks, or block 0 is one of them; or ``init`` is
            neither.
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
        """Softmax attention, and Φ in skipped blocks."""
        depth, skipped = arch['depth'], self.skip_layers
        if skipped is None:
            skipped = range(depth // 4, 3 * depth // 4)
        phi = with_options(dict(type=SkipAttention), attention)
        return _with_skipped(super().default_attentions(arch, {}), skipped, phi)


@MODELS.register_module()
class SkipAtPVT(PVT):
    """Pyramid Vision Transformer that skips attention in some blocks of each stage.

    A chain of Φ never crosses a stage. The paper names PVT as a host but not the blocks: where to
    skip and how wide Φ is (``phi_ratio=1``; at 2, as in ViT, Φ would cost more than spatial
    reduction attention at 224 pixels) are our choice.

    Args:
        arch (str | dict): See :class:`PVT`.
        skip_layers (Sequence[Collection[int]], optional): Per stage, blocks to skip, counted from
            0. By default from ``max(1, depth // 4)`` up to ``3 * depth // 4``: none of two blocks.
        **kwargs: See :class:`PVT`; ``attention`` gives options of the skipped blocks'
            :class:`~mmeffvit.layers.SkipAttention`.

    Raises:
        ValueError: If ``skip_layers`` are not blocks, or block 0 of a stage is one of them.
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
        """Spatial-reduction attention, and Φ in skipped blocks."""
        depths, skipped = arch['depths'], self.skip_layers
        if skipped is None:
            skipped = [range(max(1, depth // 4), 3 * depth // 4) for depth in depths]
        phi = with_options(dict(type=SkipAttention, phi_ratio=1.0), attention)
        stages = zip(super().default_attentions(arch, {}), depths, skipped, strict=True)
        return [_with_skipped([own] * depth, blocks, phi) for own, depth, blocks in stages]


def _with_skipped(attentions: list[dict], skip_layers: Collection[int], phi: dict) -> list[dict]:
    """One config per block."""
    depth = len(attentions)
    wrong = [i for i in skip_layers if not 0 <= i < depth]
    if wrong:
        raise ValueError(f'skip_layers has {wrong[0]}; the blocks are 0 .. {depth - 1}.')
    return [phi if i in skip_layers else own for i, own in enumerate(attentions)]
