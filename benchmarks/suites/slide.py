"""Slide attention: op, layer, backbone against the frozen baselines; Slide-Swin against Swin."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.baselines import slide as baselines
from benchmarks.harness import Case
from benchmarks.wrappers import OnGrid
from mmeffvit.backbones import SlideSwin, SwinTransformer
from mmeffvit.layers import SlideAttention
from mmeffvit.ops import slide_attention

#: Heads, head width, side of the map, window.
OPS = ((2, 32, 56, 3), (4, 32, 28, 3), (2, 32, 56, 5), (2, 32, 56, 7))
#: Batch, height, width, channels, heads, window: stages of Slide-PVT and Slide-Swin, larger
#: windows, and stage 1 of a detector.
LAYERS = (
    (2, 56, 56, 64, 1, 3),
    (2, 28, 28, 128, 2, 3),
    (2, 56, 56, 96, 3, 3),
    (2, 28, 28, 128, 2, 5),
    (1, 200, 336, 64, 1, 3),
)


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {_op_name(*shape): partial(_op, *shape) for shape in OPS}
    out |= {_name(*shape): partial(_layer, *shape) for shape in LAYERS}
    out['Slide-Swin-T 224'] = _backbone
    out['Slide-Swin-T and Swin-T 224'] = _swin
    return out


def _op_name(heads: int, D: int, side: int, size: int) -> str:
    return f'op {heads}x{D}, {side}x{side}, k={size}'


def _op(heads: int, D: int, side: int, size: int) -> Case:
    layer = SlideAttention(heads * D, heads, kernel_size=size)
    return Case(
        _op_name(heads, D, side, size),
        lambda: (torch.randn(3, 1, side, side, heads, D) / D**0.25).unbind(),
        {kind: _Op(layer, kind) for kind in ('ours', *baselines.KINDS)},
        equal=('public', 'merged'),
    )


class _Op(nn.Module):
    """The op with a layer's banks; a baseline brings its inputs into NCHW first."""

    def __init__(self, layer: SlideAttention, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = layer, kind

    def forward(self, *qkv: Tensor) -> Tensor:
        table, size = self.layer.relative_position_bias_table, self.layer.kernel_size
        if self.kind == 'ours':
            heads, D = qkv[0].shape[-2:]
            ((weight, bias),) = baselines.banks_of(self.layer, 'merged')
            weight, bias = weight.view(D, size**2, -1), bias.view(D, -1)
            return slide_attention(*qkv, weight, bias, table.view(heads, -1))
        maps = (x.permute(0, 3, 4, 1, 2).flatten(0, 1).contiguous() for x in qkv)
        out = baselines.attend(*maps, baselines.banks_of(self.layer, self.kind), table, size)
        return out.permute(0, 3, 4, 1, 2).contiguous()


def _name(B: int, H: int, W: int, C: int, heads: int, size: int) -> str:
    return f'layer {B}x{H}x{W}x{C}, {heads} heads, k={size}'


def _layer(B: int, H: int, W: int, C: int, heads: int, size: int) -> Case:
    ours = OnGrid(SlideAttention(C, heads, kernel_size=size), (H, W))
    published = {kind: baselines.as_published(ours, kind) for kind in baselines.KINDS}
    return Case(
        _name(B, H, W, C, heads, size),
        lambda: [torch.randn(B, H * W, C)],
        {'ours': ours, **published},
        equal=('public', 'merged'),
    )


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
