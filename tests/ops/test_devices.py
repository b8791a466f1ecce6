"""The fast paths in plain PyTorch on every device, against the references on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from helpers.relative_errors import relative_error, values_and_gradients
from mmeffvit.ops import (
    depthwise_conv,
    lookup_gather,
    lookup_infuse,
    quadtree_attention,
    quadtree_fine,
    slide_attention,
    softmax_attention,
    window_attention,
)
from mmeffvit.ops.lookup import Projection

Problem = tuple[Callable[..., list[Tensor]], list[Tensor]]


def draw(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def fine(kind: str) -> Problem:
    index = torch.tensor([[[0, 2], [1, 2], [2, 0]]]).expand(2, -1, -1)
    q, k, v, score = draw((2, 12, 8), (2, 12, 8), (2, 12, 8), (2, 3, 2))

    def run(q, k, v, score, backend) -> list[Tensor]:
        parent = score.sigmoid() if kind == 'A' else None
        out, _, kept = quadtree_fine(
            q, k, v, index.to(q.device), parent, scale=0.4, topk=3, backend=backend
        )
        return [out, kept if kind == 'A' else out * score.mean()]

    return run, [q, k, v, score]


def pyramid(kind: str) -> Problem:
    shapes = [(1, 2, 4 * 4**level, 8) for level in range(3)]

    def run(*levels, backend) -> list[Tensor]:
        parts = [levels[i : i + 3] for i in (0, 3, 6)]
        weights = None if kind == 'A' else levels[9].softmax(0)
        out = quadtree_attention(*parts, (2, 2, 2), kind, level_weights=weights, backend=backend)
        return [out]

    return run, draw(*shapes * 3, *([] if kind == 'A' else [(3,)]))


def slide(size: int, **options) -> Problem:
    K = size**2

    def run(*tensors, backend) -> list[Tensor]:
        return [slide_attention(*tensors, **options, backend=backend)]

    return run, draw(*[(2, 5, 4, 2, 8)] * 3, (8, K, K), (8, K), (2, K))


def gather(queries: int) -> Problem:
    def run(q, tokens, weight, bias, backend) -> list[Tensor]:
        values = Projection(tokens, weight, bias)
        return list(lookup_gather(q, values, values, 4, backend=backend))

    return run, draw((2, queries, 16), (2, 40, 16), (16, 16), (16,))


def infuse() -> Problem:
    def run(scores, values, weight, bias, backend) -> list[Tensor]:
        return [lookup_infuse(scores.softmax(-1), values, (weight, bias), backend=backend)]

    return run, draw((2, 4, 7, 40), (2, 7, 16), (16, 16), (16,))


def windows() -> Problem:
    def run(*tensors, backend) -> list[Tensor]:
        visible = torch.ones(2, 2, 9, 9, dtype=torch.bool, device=tensors[0].device)
        visible[1, :, :3, 3:] = visible[:, 1, 6:, :2] = False
        return [window_attention(*tensors, (2, 2), visible, backend=backend)]

    return run, draw(*[(8, 2, 9, 8)] * 3, (2, 9, 9))


def softmax() -> Problem:
    def run(*tensors, backend) -> list[Tensor]:
        return [softmax_attention(*tensors, backend=backend)]

    return run, draw((2, 2, 10, 8), (2, 2, 13, 8), (2, 2, 13, 8), (2, 10, 13))


def convolution(size: int) -> Problem:
    def run(*tensors, backend) -> list[Tensor]:
        return [depthwise_conv(*tensors, backend=backend)]

    return run, draw((2, 8, 6, 5), (8, 1, size, size), (8,))


PROBLEMS = {
    'quadtree_fine A': fine('A'),
    'quadtree_fine B': fine('B'),
    'quadtree_attention A': pyramid('A'),
    'quadtree_attention B': pyramid('B'),
    'slide_attention 3': slide(3),
    'slide_attention 5': slide(5, mask_borders=True),
    'slide_attention reflect': slide(3, padding_mode='reflect'),
    'lookup_gather, absorbed': gather(2),
    'lookup_gather': gather(7),
    'lookup_infuse': infuse(),
    'window_attention': windows(),
    'softmax_attention': softmax(),
    'depthwise_conv 3': convolution(3),
    'depthwise_conv 5': convolution(5),
}


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
@pytest.mark.parametrize('name', PROBLEMS)
def test_fast_path_equals_the_reference(name, device):
    run, leaves = PROBLEMS[name]
    right = values_and_gradients(lambda *x: run(*x, backend='reference'), leaves)
    moved = [x.to(device) for x in leaves]
    found = values_and_gradients(lambda *x: run(*x, backend='torch'), moved)
    for out, expected in zip(found[0] + found[1], right[0] + right[1], strict=True):
        assert out.device.type == device
        assert relative_error(out, expected) < 1e-10
