"""Relative errors of the kernels and of their gradients, against the reference in float64.

Odd sizes, maps smaller than the window, every class of head width; memory that a kernel should
write is filled with NaN before. On a CPU Triton interprets the small problems; a GPU runs all.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers.relative_errors import relative_error, values_and_gradients
from helpers.triton_runs import DEVICE, needs_triton
from mmeffvit.ops import quadtree_fine, slide_attention

pytestmark = [needs_triton, pytest.mark.filterwarnings('ignore:.*deterministic')]

LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}

QUADTREE = [
    dict(D=20, K=3, topk=5),
    dict(D=16, K=1, kind='A', topk=3, masked=True),
]
SLIDE = [
    dict(D=20, size=3, grid=(1, 3), heads=1, batch=1),
]
if DEVICE == 'cuda':
    QUADTREE += [dict(D=D, K=8, parents=333, key_parents=123) for D in (16, 32, 40, 64, 96, 128)]
    QUADTREE += [dict(D=D, K=8, topk=8, parents=333, key_parents=123) for D in (16, 32, 64, 128)]
    QUADTREE += [dict(D=D, K=32, topk=32, parents=77, key_parents=55) for D in (32, 64, 128)]
    QUADTREE += [
        dict(D=64, K=17, masked=True, parents=77, key_parents=55),
        dict(D=64, K=8, kind='A', topk=8, parents=333, key_parents=123),
        dict(D=32, K=32, kind='A', masked=True, topk=16, parents=77, key_parents=55),
        dict(D=64, K=8, parents=3333, key_parents=9),  # lists of thousands of queries
        dict(D=64, K=8, heads=64, parents=784, key_parents=784),  # batch 64, 56 x 56
    ]
    SLIDE += [dict(D=20, size=5, grid=(2, 3))]
    SLIDE += [dict(D=D, size=3, grid=(37, 41)) for D in (16, 32, 40, 64, 96, 128)]
    SLIDE += [dict(D=D, size=5, grid=(19, 23)) for D in (16, 32, 64, 128)]
    SLIDE += [dict(D=D, size=7, grid=(19, 23)) for D in (32, 40, 128)]
    SLIDE += [
        dict(D=32, size=3, grid=(1, 1)),
        dict(D=32, size=7, grid=(2, 3)),
        dict(D=32, size=3, grid=(37, 41), mask_borders=True),
        dict(D=32, size=5, grid=(3, 70), padding_mode='circular'),
        dict(D=32, size=3, grid=(56, 56), batch=64, heads=2),
    ]


def check(run, leaves: list[Tensor], dtype: torch.dtype, record_property) -> None:
    """Compare kernel and reference; every error is recorded before any is judged."""
    results, grads = values_and_gradients(lambda *x: run(*x, backend='triton'), leaves)
    doubles = [x.double() for x in leaves]
    expected, right = values_and_gradients(lambda *x: run(*x, backend='reference'), doubles)
    out_error = max(relative_error(a, b) for a, b in zip(results, expected, strict=True))
    grad_error = max(relative_error(a, b) for a, b in zip(grads, right, strict=True))
    record_property('errors', {'values': out_error, 'gradients': grad_error})
    record_property('limit', LIMITS[dtype])
    assert out_error <= LIMITS[dtype] and grad_error <= LIMITS[dtype], (out_error, grad_error)


@pytest.mark.parametrize('dtype', LIMITS, ids=str)
@pytest.mark.parametrize('shape', QUADTREE, ids=str)
def test_quadtree(shape, dtype, record_property):
    check(*make_quadtree(**shape, dtype=dtype), dtype, record_property)


def make_quadtree(D, K, dtype, topk=0, kind='B', masked=False, heads=2, parents=5, key_parents=7):
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE, dtype)

    leaves = [random(heads, 4 * parents, D)] + [random(heads, 4 * key_parents, D) for _ in 'kv']
    draws = torch.rand(heads, parents, key_parents, generator=generator)
    index = draws.topk(K).indices.to(DEVICE)
    if kind == 'A':
        leaves.append(torch.rand(heads, parents, K, generator=generator).to(DEVICE))
    mask = None
    if masked:
        mask = (torch.rand(heads, 4 * key_parents, generator=generator) > 0.3).to(DEVICE)

    def run(q, k, v, score=None, *, backend) -> list[Tensor]:
        options = dict(scale=D**-0.5, topk=topk, backend=backend)
        out, _, kept_score = quadtree_fine(q, k, v, index, score, mask, **options)
        return [out] if kept_score is None else [out, kept_score]

    return run, leaves


@pytest.mark.parametrize('dtype', LIMITS, ids=str)
@pytest.mark.parametrize('shape', SLIDE, ids=str)
def test_slide(shape, dtype, record_property):
    if shape['size'] == 7 and dtype == torch.float32:
        pytest.skip('no kernel for windows of 7 in float32')
    check(*make_slide(**shape, dtype=dtype), dtype, record_property)


def make_slide(D, size, grid, dtype, heads=2, batch=2, **options):
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    qkv = [random(batch, *grid, heads, D).to(dtype) / D**0.25 for _ in range(3)]
    taps = size**2
    tables = [random(D, taps, taps) / size, random(D, taps), random(heads, taps)]

    def run(*tensors, backend) -> list[Tensor]:
        return [slide_attention(*tensors, **options, backend=backend)]

    return run, qkv + tables
