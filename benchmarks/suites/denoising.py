"""Denoisers: window attention against plain products, SkipAt against its hosts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.baselines.window import PublishedWindowAttention, as_published
from benchmarks.harness import Case
from benchmarks.wrappers import OnGrid
from mmeffvit.denoising import SkipUformer, SkipUniFormerUNet, Uformer, UniFormerUNet
from mmeffvit.layers import WindowAttention
from mmeffvit.layers.space_time import SpaceTimeAttention
from mmeffvit.ops.layout import Grid

PLAIN = 'plain products'


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {}
    for size in (256, 1024):
        for shift in (False, True):
            kind = 'shifted' if shift else 'regular'
            out[f'window layer {size} {kind}'] = partial(_layer, size, shift)
    for arch, size in (('t', 256), ('t', 1024), ('s', 256), ('b', 256)):
        out[f'uformer {arch} {size}'] = partial(_uformer, arch, size)
    for side in (64, 128):
        out[f'uniformer 7x{side}x{side}'] = partial(_uniformer, side)
    return out


def _layer(size: int, shift: bool) -> Case:
    """The first stage of Uformer-T: full resolution, 16 channels, one head."""
    layer = WindowAttention(16, 1, window_size=8, shift=shift)
    grid = (size, size)
    return Case(
        f'window attention {size}x{size}x16, {"shifted" if shift else "regular"}',
        lambda: [torch.randn(1, size * size, 16)],
        {'ours': OnGrid(layer, grid), PLAIN: OnGrid(PublishedWindowAttention(layer), grid)},
        equal=(PLAIN,),
    )


def _uformer(arch: str, size: int) -> Case:
    """Ours with SkipAt; the same Uformer without it, by our windows and by plain ones."""
    host = Uformer(arch).eval()
    return Case(
        f'Uformer-{arch.upper()} {size} px',
        lambda: [torch.rand(1, 3, size, size)],
        {
            'ours with SkipAt': SkipUformer(arch).eval(),
            'ours without': host,
            f'without, {PLAIN}': as_published(host),
        },
        modes=('forward',) if size > 256 or arch != 't' else ('forward', 'forward+backward'),
    )


def _uniformer(side: int) -> Case:
    """Reuse of attention, by what is kept, against the host."""
    torch.manual_seed(0)
    ours = SkipUniFormerUNet(attention=dict(keep='qk')).eval()
    matrix = SkipUniFormerUNet(attention=dict(keep='matrix')).eval()
    matrix.load_state_dict(ours.state_dict())
    return Case(
        f'UniFormer denoiser 7x{side}x{side}',
        lambda: [torch.rand(1, 3, 7, side, side)],
        {
            'ours, queries and keys kept': ours,
            'ours, matrix kept': matrix,
            'without reuse, fused': UniFormerUNet().eval(),
            'without reuse, matrix': _explicit(UniFormerUNet().eval()),
        },
        modes=('forward',),
        equal=('ours, matrix kept',),
        tolerance=1e-4,
    )


def _explicit(model: UniFormerUNet) -> UniFormerUNet:
    """Make the matrix of every block, as code without fused attention does."""
    for module in model.modules():
        if isinstance(module, SpaceTimeAttention):
            module.forward = partial(_with_matrix, module)
    return model


def _with_matrix(layer: SpaceTimeAttention, x: torch.Tensor, grid: Grid) -> torch.Tensor:
    q, k, v = layer.project(x, grid)
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return layer.merge_heads(weights @ v, grid)
