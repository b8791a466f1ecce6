"""Counts against torch's counter on a real run, and against formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from helpers.models import SMALLEST
from mmeffvit import get_model
from mmeffvit.analysis import count_complexity, count_model, input_shape
from mmeffvit.layers import (
    LookupBlock,
    QuadTreeAttention,
    SlideAttention,
    SoftmaxAttention,
    SpatialReductionAttention,
    WindowAttention,
)
from mmeffvit.ops import use_backend


@pytest.mark.parametrize('name', SMALLEST)
def test_every_family_agrees_with_torchs_counter(name):
    """Every op as its reference: of fast paths it does not see all products."""
    model = get_model(name).eval().requires_grad_(False)
    size = (33, 45) if model.num_frames is None else (2, 17, 22)
    shape = input_shape(model, size)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), use_backend('reference'), sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.rand(shape))
    counted = count_complexity(model, shape)
    assert counted.macs == pytest.approx(counter.get_total_flops() / 2, rel=0.01)
    assert 0 < counted.attention_macs < counted.macs


C, HEADS, GRID = 16, 2, (8, 12)
N = GRID[0] * GRID[1]
PROJECTIONS = 4 * N * C * C


class OnGrid(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, GRID)


@pytest.mark.parametrize(
    ('layer', 'macs'),
    [
        (SoftmaxAttention(C, HEADS), PROJECTIONS + 2 * N * N * C),
        (WindowAttention(C, HEADS, window_size=4), PROJECTIONS + 2 * N * 16 * C),
        (
            SpatialReductionAttention(C, HEADS, sr_ratio=2),
            # queries and output; keys and values; the reduction; both products
            2 * N * C * C + 2 * (N // 4) * C * C + N * C * C + 2 * N * (N // 4) * C,
        ),
        # the bank for keys and values, merged: 9 taps of 9 offsets; 9 keys per query
        (SlideAttention(C, HEADS, kernel_size=3), PROJECTIONS + 2 * N * C * 81 + 2 * N * 9 * C),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else '',
)
def test_attention_by_formula(layer, macs):
    assert count_complexity(OnGrid(layer), (1, N, C)).macs == macs


def test_quadtree_by_formula():
    """Coarsest level: all keys. Each finer one: four children of the keys that were kept."""
    one, two = (
        count_complexity(OnGrid(QuadTreeAttention(C, HEADS, levels=levels, topks=4)), (1, N, C))
        for levels in (1, 2)
    )
    assert one.attention_macs == 2 * N * N * C
    assert two.attention_macs == 2 * (N // 4) ** 2 * C + 2 * N * (4 * 4) * C


def test_cross_attention_by_formula():
    """The gathering's logits and sums, the infusion's sums: no second product of logits."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = LookupBlock(C, HEADS)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.block(x[:, :M], x)

    M = 5
    refinement = 2 * M * M * C
    assert count_complexity(Both(), (1, N, C)).attention_macs == 3 * M * N * C + refinement


def test_modules_hold_their_children_in_the_models_order():
    model = get_model('quadtree_b0')
    by_module = count_model(model, (64, 64)).by_module
    order = [name for name, _ in model.named_modules()]
    assert list(by_module) == [name for name in order if name in by_module]
    stages = [by_module[f'stages.{i}'] for i in range(4)]
    assert by_module['stages'] == sum(stages) == count_model(model, (64, 64)).macs


def test_a_module_called_past_its_hooks_holds_its_children():
    class Bypass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head.forward(x)

    assert count_complexity(Bypass(), (7, 3)).by_module == {
        'head': 7 * 25,
        'head.0': 7 * 15,
        'head.2': 7 * 10,
    }


def test_clips():
    clips, images = get_model('uniformer'), get_model('vit_t')
    assert input_shape(clips, (32, 48)) == (1, 3, 7, 32, 48)
    assert input_shape(clips, (2, 32, 48), batch=4) == (4, 3, 2, 32, 48)
    with pytest.raises(ValueError, match='is a clip, but this VisionTransformer takes images'):
        input_shape(images, (2, 32, 48))
