"""LookupViT: op, block and stack of blocks against the plain form and against ViT (SDPA).

Stacks have 3 of the 12 blocks of the base size, without stem and heads: blocks are alike, so the
ratio is that of the whole. The ratio of multiply-adds is in the name of the case.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.harness import Case
from benchmarks.wrappers import PlainOps
from mmeffvit.analysis import count_complexity
from mmeffvit.layers import LookupBlock, Mlp, SoftmaxAttention, TransformerBlock
from mmeffvit.ops import resample_linear

DEPTH = 3
WIDTH, HEADS = 768, 12
#: Side of the image in pixels, side of the compressed grid.
STACKS = (
    (224, 5),
    (384, 3),
    (384, 5),
    (384, 7),
    (384, 10),
    (512, 5),
    (768, 5),
    (1024, 5),
    (1024, 16),
)
#: Width, lookup tokens, compressed tokens: where absorption pays and where it must not.
BLOCKS = (
    (768, 196, 25),
    (768, 576, 25),
    (768, 576, 49),
    (768, 576, 100),
    (768, 1024, 25),
    (384, 576, 25),
)


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {f'stack {side} {size}x{size}': partial(_stack, side, size) for side, size in STACKS}
    for shape in BLOCKS:
        D, N, M = shape
        out[f'block D={D} N={N} M={M}'] = partial(_block, *shape)
        out[f'block pre-norm, two projections D={D} N={N} M={M}'] = partial(
            _block, *shape, norm_position='pre', p2l_out_proj=True
        )
    return out


class _LookupStack(nn.Module):
    def __init__(self, size: int, **options) -> None:
        super().__init__()
        self.size = size
        self.blocks = nn.ModuleList(LookupBlock(WIDTH, HEADS, **options) for _ in range(DEPTH))

    def forward(self, lookup: Tensor) -> tuple[Tensor, Tensor]:
        side = int(lookup.shape[1] ** 0.5)
        compressed = resample_linear(lookup, (side, side), (self.size, self.size))
        for block in self.blocks:
            compressed, lookup = block(compressed, lookup)
        return compressed, lookup


class _ViTStack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(WIDTH, SoftmaxAttention(WIDTH, HEADS), Mlp(WIDTH, 4 * WIDTH))
            for _ in range(DEPTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, None)
        return x


def _stack(side: int, size: int) -> Case:
    torch.manual_seed(0)
    ours, vit = _LookupStack(size), _ViTStack()
    shape = (1, (side // 16) ** 2, WIDTH)
    saved = count_complexity(vit, shape).macs / count_complexity(ours, shape).macs
    return Case(
        f'stack {side} px, {size}x{size} ({saved:.2f}x fewer multiply-adds)',
        lambda: [torch.randn(shape)],
        {'ours': ours, 'plain ops': PlainOps(ours), 'ViT-B (SDPA)': vit},
        equal=('plain ops',),
    )


def _block(D: int, N: int, M: int, **options) -> Case:
    torch.manual_seed(0)
    ours = LookupBlock(D, D // 64, **options)
    return Case(
        f'block D={D} N={N} M={M} {"pre-norm, two projections" if options else ""}'.strip(),
        lambda: [torch.randn(1, M, D), torch.randn(1, N, D)],
        {'ours': ours, 'plain ops': PlainOps(ours)},
        tolerance=1e-6,
        equal=('plain ops',),
    )
