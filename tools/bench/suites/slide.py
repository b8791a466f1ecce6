"""Slide attention: layer and backbone against the frozen baselines, and Slide-Swin against Swin."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mmeffvit.backbones import SlideSwin, SwinTransformer
from mmeffvit.layers import SlideAttention
from tools.bench.baselines import slide as baselines
from tools.bench.harness import Case

#: Batch, height, width, channels, heads, window: stages of Slide-PVT and Slide-Swin, larger
#: windows, and stage 1 of a detector.
LAYERS = (
    (2, 56, 56, 64, 1, 3),
    (2, 28, 28, 128, 2, 3),
    (2, 56, 56, 96, 3, 3),
    (2, 28, 28, 128, 2, 5),
    (1, 56, 56, 64, 2, 3),
    (1, 28, 28, 128, 4, 3),
    (1, 56, 56, 64, 2, 5),
    (1, 56, 56, 64, 2, 7),
    (1, 200, 336, 64, 1, 3),
)


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {_name(*shape): partial(_layer, *shape) for shape in LAYERS}
    out['Slide-Swin-T 224'] = _backbone
    out['Slide-Swin-T and Swin-T 224'] = _swin
    return out


def _name(B: int, H: int, W: int, C: int, heads: int, size: int) -> str:
    return f'layer {B}x{H}x{W}x{C}, {heads} heads, k={size}'


def _layer(B: int, H: int, W: int, C: int, heads: int, size: int) -> Case:
    ours = _On(SlideAttention(C, heads, kernel_size=size), (H, W))
    published = {kind: baselines.as_published(ours, kind) for kind in baselines.KINDS}
    return Case(
        _name(B, H, W, C, heads, size),
        lambda: [torch.randn(B, H * W, C)],
        {'ours': ours, **published},
        equal=('public', 'merged'),
    )


class _On(nn.Module):
    """An attention layer on a fixed grid."""

    def __init__(self, layer: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.layer, self.grid = layer, grid

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, self.grid)


def _backbone() -> Case:
    ours = SlideSwin('tiny')
    published = {kind: baselines.as_published(ours, kind) for kind in ('public', 'merged')}
    return Case(
        'Slide-Swin-T 224',
        lambda: [torch.randn(1, 3, 224, 224)],
        {'ours': ours, **published},
        tolerance=1e-4,
        equal=tuple(published),
    )


def _swin() -> Case:
    trained = SlideSwin('tiny')
    deployed = copy.deepcopy(trained)
    deployed.switch_to_deploy()
    candidates: dict[str, nn.Module] = {
        'ours, deploy': deployed,
        'ours': trained,
        'Swin-T, same code': SwinTransformer('tiny'),
    }
    try:
        from mmdet.models.backbones import SwinTransformer as MMDetSwin
    except ImportError:
        pass
    else:
        candidates['Swin-T, mmdet'] = MMDetSwin()
    return Case(
        'Slide-Swin-T and Swin-T 224',
        lambda: [torch.randn(1, 3, 224, 224)],
        candidates,
        modes=('forward',),
        equal=('ours',),
    )
