"""QuadTree: op, layer and backbone against the frozen baselines, SDPA and PVTv2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.baselines import quadtree as baselines
from benchmarks.harness import Case
from benchmarks.wrappers import Autocast, OnGrid
from mmeffvit.backbones import PVTv2, QuadTreeTransformer
from mmeffvit.layers import QuadTreeAttention, SoftmaxAttention
from mmeffvit.ops import quadtree_fine

#: Groups, queries, head width, keys kept: the shapes of a b0 to b2 at 224 and 512 px.
FINE = (
    (1, 3136, 64, 8),
    (2, 784, 64, 8),
    (4, 784, 32, 8),
    (5, 196, 64, 8),
    (1, 16384, 64, 8),
    (1, 3136, 64, 32),
    (2, 1024, 64, 32),
)


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {f'fine {G}x{N}x{D} K={K}': partial(_fine, G, N, D, K) for G, N, D, K in FINE}
    for side in (56, 128):
        out[f'layer {side}x{side}x64'] = partial(_layer, side)
    for arch, size, batch in (('b0', 224, 1), ('b2', 224, 1), ('b0', 512, 1), ('b2', 512, 1)):
        out[f'backbone {arch} {size} batch {batch}'] = partial(_backbone, arch, size, batch)
    for with_cp in ('mlp_tail', 'mlp', 'all'):
        out[f'backbone b2 512 with_cp={with_cp}'] = partial(_checkpointed, with_cp)
    out['backbone b0 512 bfloat16'] = _bfloat16
    for size in (224, 512):
        out[f'PVTv2-b2 {size}'] = partial(_pvtv2, size)
    return out


def _fine(G: int, N: int, D: int, K: int) -> Case:
    index = torch.rand(G, N // 4, N // 4).topk(K).indices

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return quadtree_fine(q, k, v, index, scale=D**-0.5)[0]

    def baseline(fine: Callable) -> Callable:
        return lambda q, k, v: fine(q, k, v, index, D**-0.5)[0]

    candidates = {
        'ours': ours,
        '(a) per-query': baseline(baselines.fine_per_query),
        '(b) per-group': baseline(baselines.fine_per_group),
    }
    return Case(
        f'fine {G}x{N}x{D} K={K}',
        lambda: torch.randn(3, G, N, D).unbind(),
        candidates,
        equal=tuple(candidates)[1:],
    )


def _layer(side: int) -> Case:
    ours = OnGrid(QuadTreeAttention(64, 1, levels=4), (side, side))
    full = OnGrid(SoftmaxAttention(64, 1), (side, side))
    return Case(
        f'layer {side}x{side}x64, 4 levels',
        lambda: [torch.randn(1, side * side, 64)],
        {**_published(ours), 'full SDPA': full},
        tolerance=2e-5,
        equal=('(a) per-query', '(b) per-group'),
    )


def _published(model: nn.Module) -> dict[str, nn.Module]:
    return {
        'ours': model,
        '(a) per-query': baselines.as_published(model, per_query=True),
        '(b) per-group': baselines.as_published(model, per_query=False),
    }


def _backbone(arch: str, size: int, batch: int) -> Case:
    return Case(
        f'QuadTree-{arch} {size} px, batch {batch}',
        lambda: [torch.randn(batch, 3, size, size)],
        _published(QuadTreeTransformer(arch)),
        tolerance=5e-2 if size > 224 else 5e-3,  # top-k flips where scores tie within rounding
        equal=('(a) per-query', '(b) per-group'),
    )


def _checkpointed(with_cp: str) -> Case:
    torch.manual_seed(0)
    ours = QuadTreeTransformer('b2', with_cp=with_cp)
    baseline = QuadTreeTransformer('b2')
    baseline.load_state_dict(ours.state_dict())
    return Case(
        f'QuadTree-b2 512 px, with_cp={with_cp}',
        lambda: [torch.randn(1, 3, 512, 512)],
        {'ours': ours, '(a) per-query': baselines.as_published(baseline, per_query=True)},
        modes=('forward+backward',),
        tolerance=5e-2,
        equal=('(a) per-query',),
    )


def _bfloat16() -> Case:
    model = QuadTreeTransformer('b0')

    return Case(
        'QuadTree-b0 512 px, bfloat16 against float32',
        lambda: [torch.randn(1, 3, 512, 512)],
        {
            'ours': Autocast(model),
            'ours, float32': model,
            '(a) per-query': baselines.as_published(model, per_query=True),
        },
        modes=('forward',),
    )


def _pvtv2(size: int) -> Case:
    candidates: dict[str, nn.Module] = {
        'ours': QuadTreeTransformer('b2'),
        'PVTv2-b2, same code': PVTv2('b2'),
    }
    if size <= 224:  # full attention of the first stage needs 1 GiB at 512
        candidates['full SDPA'] = PVTv2('b2', attention=dict(type=SoftmaxAttention))
    try:
        from mmdet.models.backbones import PyramidVisionTransformerV2
    except ImportError:
        pass
    else:
        candidates['PVTv2-b2, mmdet'] = PyramidVisionTransformerV2(
            embed_dims=64, num_layers=[3, 4, 6, 3]
        )
    return Case(
        f'QuadTree-b2 and PVTv2-b2, {size} px', lambda: [torch.randn(1, 3, size, size)], candidates
    )
