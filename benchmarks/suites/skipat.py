"""SkipAt against the plain ViT of the same code: fused (SDPA) and explicit-softmax attention.

The published gain (19, 21, 25 % at 224 px) was measured over explicit softmax on an A100.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.baselines.skipat import with_explicit_softmax
from benchmarks.harness import Case
from benchmarks.wrappers import Autocast, OnGrid, PlainOps
from mmeffvit.backbones import SkipAtViT
from mmeffvit.layers import Phi

#: Batch, height, width.
IMAGES = ((8, 224, 224), (1, 224, 224), (1, 384, 384), (1, 512, 512), (1, 512, 2048))
#: Batch, grid, width of Φ.
PHIS = ((8, 14, 14, 192), (1, 32, 32, 192), (1, 32, 32, 384), (1, 32, 128, 192))


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {f'phi {B}x{H}x{W}x{C}': partial(_phi, B, H, W, C) for B, H, W, C in PHIS}
    for arch in ('tiny', 'small', 'base'):
        for image in IMAGES:
            name = f'{arch} {image[1]}x{image[2]} batch {image[0]}'
            out[name] = partial(_backbone, arch, *image)
            out[f'{name} bfloat16'] = partial(_backbone, arch, *image, bfloat16=True)
    return out


def _phi(B: int, H: int, W: int, C: int) -> Case:
    ours = OnGrid(Phi(C), (H, W))
    return Case(
        f'Φ on {B}x{H}x{W}x{C}',
        lambda: [torch.randn(B, H * W, C)],
        {'ours': ours, 'plain ops': PlainOps(ours)},
        equal=('plain ops',),
    )


def _backbone(arch: str, batch: int, height: int, width: int, bfloat16: bool = False) -> Case:
    torch.manual_seed(0)
    skipat, vit = (SkipAtViT(arch, skip, final_norm=False) for skip in (None, ()))
    candidates: dict[str, nn.Module] = {
        'ours': skipat,
        'plain ops': PlainOps(skipat),
        'ViT (SDPA)': vit,
        'ViT (explicit softmax)': with_explicit_softmax(vit),
    }
    equal: tuple[str, ...] = ('plain ops',)
    if bfloat16:
        candidates = {name: Autocast(model) for name, model in candidates.items()}
        equal = ()  # rounding differs by more than float32's tolerance
    return Case(
        f'{arch} {height}x{width}, batch {batch}{", bfloat16" if bfloat16 else ""}',
        lambda: [torch.randn(batch, 3, height, width)],
        candidates,
        equal=equal,
    )
