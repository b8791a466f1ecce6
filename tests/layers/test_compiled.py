"""Compiled layers call the operators of their fast paths, in both directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmeffvit.layers import QuadTreeAttention, SlideAttention

C, GRID = 16, (8, 12)


def _gradients(run: nn.Module, layer: nn.Module, x: Tensor) -> list[Tensor]:
    out = run(x, GRID)
    trainable = [p for p in layer.parameters() if p.requires_grad]
    return [out, *torch.autograd.grad(out.square().mean(), trainable)]


@pytest.mark.parametrize(
    ('layer', 'operator'),
    [
        (lambda: QuadTreeAttention(C, 2, levels=2, topks=4), 'quadtree_fine'),
        (lambda: SlideAttention(C, 2, kernel_size=3), 'slide_attention'),
    ],
    ids=['quadtree', 'slide'],
)
def test_operators_are_called_and_results_equal_eager(layer, operator):
    torch.manual_seed(0)
    torch.compiler.reset()
    layer = layer()
    x = torch.randn(2, GRID[0] * GRID[1], C)
    compiled = torch.compile(layer, fullgraph=True, backend='aot_eager')
    with torch.autograd.profiler.profile() as profile:
        results = _gradients(compiled, layer, x)
    names = {event.name for event in profile.function_events}
    called = {name.split('::')[1] for name in names if name.startswith('mmeffvit::')}
    assert called == {operator, f'{operator}_backward'}
    for result, expected in zip(results, _gradients(layer, layer, x), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-5)
