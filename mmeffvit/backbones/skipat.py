from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from ..registry import MODELS
from .base import find_arch, zoo_of
from .pvt import PVT, PVT_ARCHS, spatial_reduction_attentions
from .vit import VIT_ARCHS, VisionTransformer

INITS = ('vit', 'official')


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
        phi_type (str): ``'phi'``, or an ablation: ``'conv'``, ``'dwconv'``, ``'identity'``.
        phi_kernel (int): Odd side of Φ's convolution.
        phi_ratio (float): Φ's hidden width over the width.
        eca_kernel (int | str, optional): Kernel of Φ's channel gate: 3 in the authors' code,
            ``'adaptive'`` as in ECA-Net, None for no gate.
        init (str): Linear layers of the blocks: ``'vit'`` is DeiT's truncated normal;
            ``'official'`` is PyTorch's default, with which the authors' models were trained.
        **kwargs: See :class:`VisionTransformer`.

    Raises:
        ValueError: If ``skip_layers`` are not blocks, or block 0 is one of them; or ``init`` has no
            meaning.
    """

    zoo = zoo_of('skipat', VIT_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'small',
        skip_layers: Collection[int] | None = None,
        phi_type: str = 'phi',
        phi_kernel: int = 5,
        phi_ratio: float = 2.0,
        eca_kernel: int | str | None = 3,
        init: str = 'vit',
        **kwargs,
    ) -> None:
        if init not in INITS:
            raise ValueError(f'init={init!r} must be one of {INITS}.')
        depth = find_arch(VIT_ARCHS, arch)['depth']
        if skip_layers is None:
            skip_layers = range(depth // 4, 3 * depth // 4)
        phi = dict(
            phi_type=phi_type, phi_kernel=phi_kernel, phi_ratio=phi_ratio, eca_kernel=eca_kernel
        )
        attended = dict(type='SoftmaxAttention')
        super().__init__(arch, _attentions(attended, depth, skip_layers, phi), **kwargs)
        if init == 'official':
            for module in self.blocks.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()


@MODELS.register_module()
class SkipAtPVT(PVT):
    """Pyramid Vision Transformer that skips attention in some blocks of each stage.

    A chain of Φ never crosses a stage. The paper names PVT as a host but not the blocks: where to
    skip and how wide Φ is are our choice.

    Args:
        arch (str | dict): See :class:`PVT`.
        skip_layers (Sequence[Collection[int]], optional): Per stage, blocks to skip, counted from
            0. By default from ``max(1, depth // 4)`` up to ``3 * depth // 4``: none of two blocks.
        phi_type (str): See :class:`SkipAtViT`.
        phi_kernel (int): See :class:`SkipAtViT`.
        phi_ratio (float): Φ's hidden width over the width. At 2, as in ViT, Φ would cost more than
            spatial reduction attention at 224 pixels.
        eca_kernel (int | str, optional): See :class:`SkipAtViT`.
        **kwargs: See :class:`PyramidTransformer`.

    Raises:
        ValueError: If ``skip_layers`` are not blocks, or block 0 of a stage is one of them.
    """

    zoo = zoo_of('skipat_pvt', PVT_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'small',
        skip_layers: Sequence[Collection[int]] | None = None,
        phi_type: str = 'phi',
        phi_kernel: int = 5,
        phi_ratio: float = 1.0,
        eca_kernel: int | str | None = 3,
        **kwargs,
    ) -> None:
        depths = find_arch(PVT_ARCHS, arch)['depths']
        if skip_layers is None:
            skip_layers = [range(max(1, depth // 4), 3 * depth // 4) for depth in depths]
        phi = dict(
            phi_type=phi_type, phi_kernel=phi_kernel, phi_ratio=phi_ratio, eca_kernel=eca_kernel
        )
        attentions = [
            _attentions(attended, depth, skipped, phi)
            for attended, depth, skipped in zip(
                spatial_reduction_attentions(), depths, skip_layers, strict=True
            )
        ]
        super().__init__(arch, **{'attentions': attentions, **kwargs})


def _attentions(attended: dict, depth: int, skip_layers: Collection[int], phi: dict) -> list[dict]:
    """One config per block."""
    wrong = [i for i in skip_layers if not 0 <= i < depth]
    if wrong:
        raise ValueError(f'skip_layers has {wrong[0]}; the blocks are 0 .. {depth - 1}.')
    skipped = dict(type='SkipAttention', **phi)
    return [skipped if i in skip_layers else attended for i in range(depth)]
