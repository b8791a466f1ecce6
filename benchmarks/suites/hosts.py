"""Whole backbones against those that they replace: QuadTree and PVTv2, Slide and its hosts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.harness import Case
from mmeffvit import get_model

SIZES = ((224, 1), (224, 8), (512, 1))
#: Model to the one of the same code whose attention it replaces.
HOSTS = {
    'quadtree_b0': 'pvtv2_b0',
    'quadtree_b1': 'pvtv2_b1',
    'quadtree_b2': 'pvtv2_b2',
    'slide_swin_t': 'swin_t',
    'slide_pvt_s': 'pvt_s',
    'slide_pvtv2_b2': 'pvtv2_b2',
    'skipat_s': 'vit_s',
    'lookupvit_b': 'vit_b',
}
COMPILED = ('quadtree_b2', 'slide_swin_t')


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {
        f'{model} {size} px, batch {batch}': partial(_host, model, size, batch)
        for model in HOSTS
        for size, batch in SIZES
    }
    for model in COMPILED:
        out[f'compiled {model} 224 px'] = partial(_compiled, model)
    return out


def _host(model: str, size: int, batch: int) -> Case:
    host = HOSTS[model]
    sized = dict(img_size=size) if host.startswith('vit') else {}
    candidates = {'ours': get_model(model, **sized), f'{host}, same code': get_model(host, **sized)}
    family, _, arch = host.rpartition('_')
    for library, make in OTHERS.get(family, {}).items():
        try:
            candidates[f'{host}, {library}'] = make(arch)
        except ImportError:
            continue
    return Case(
        f'{model} {size} px, batch {batch}',
        lambda: [torch.randn(batch, 3, size, size)],
        {name: candidate.train() for name, candidate in candidates.items()},
    )


def _mmdet_pvtv2(arch: str) -> nn.Module:
    from mmdet.models.backbones import PyramidVisionTransformerV2

    dims = 32 if arch == 'b0' else 64
    return PyramidVisionTransformerV2(
        embed_dims=dims, num_layers=[3, 4, 6, 3] if arch == 'b2' else [2] * 4
    )


def _mmdet_swin(arch: str) -> nn.Module:
    from mmdet.models.backbones import SwinTransformer

    return SwinTransformer(drop_path_rate=0.0)  # of Swin-T


def _timm_pvtv2(arch: str) -> nn.Module:
    import timm

    return timm.create_model(f'pvt_v2_{arch}', features_only=True)


OTHERS = {
    'pvtv2': {'mmdet': _mmdet_pvtv2, 'timm': _timm_pvtv2},
    'swin': {'mmdet': _mmdet_swin},
}


def _compiled(name: str) -> Case:
    model = get_model(name).eval()
    torch._dynamo.config.cache_size_limit = 64
    return Case(
        f'compiled {name} 224 px, batch 1',
        lambda: [torch.randn(1, 3, 224, 224)],
        {'ours': torch.compile(model, dynamic=False), 'ours, eager': model},
        tolerance=5e-3,
        equal=('ours, eager',),
    )
