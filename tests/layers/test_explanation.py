from __future__ import annotations

import pytest
import torch
from torch import nn

from mmeffvit.denoising.uformer import EncoderReuse, ModulatedWindowAttention
from mmeffvit.layers import (
    CrossShapedWindowAttention,
    QuadTreeAttention,
    SkipAttention,
    SlideAttention,
    SoftmaxAttention,
    SpatialReductionAttention,
    WindowAttention,
)
from mmeffvit.layers.explanation import Look, cell_size
from mmeffvit.registry import MODELS

C = 8


def tokens(grid, extra=0):
    return torch.randn(1, extra + grid[0] * grid[1], C)


@pytest.mark.parametrize(
    ('size', 'grid', 'expected'),
    [
        ((75, 110), (19, 28), (4, 4)),
        ((75, 110), (3, 4), (32, 32)),
        ((20, 30), (1, 1), (32, 32)),
        ((224, 224), (5, 5), (44.8, 44.8)),
    ],
)
def test_cells_are_strides_or_stretched(size, grid, expected):
    assert cell_size(size, grid) == expected


def test_points_and_tokens():
    look = Look((75, 110), (109, 74))
    assert look.cell((19, 28)) == (18, 27)
    assert look.cell((3, 4)) == (2, 3)
    assert look.chosen((7, 7)) == [(3, 3), (0, 3), (3, 0), (3, 6), (6, 3)]
    assert look._replace(tokens=[(1, 2)]).chosen((2, 3)) == [(1, 2)]
    with pytest.raises(ValueError, match='Token 2,0 is outside the grid of 2x3 tokens'):
        look._replace(tokens=[(2, 0)]).chosen((2, 3))


def test_every_attention_layer_explains_itself():
    MODELS.import_from_location()
    # Other tests register layers of their own.
    ours = [layer for layer in MODELS.module_dict.values() if layer.__module__[:9] == 'mmeffvit.']
    layers = [layer for layer in ours if layer.__name__.endswith('Attention')]
    assert {SoftmaxAttention, SkipAttention, ModulatedWindowAttention} < set(layers)
    assert all(hasattr(layer, 'explain') for layer in (*layers, EncoderReuse))


@pytest.mark.parametrize('point', [(0, 0), (21, 9), (47, 31)])
@pytest.mark.parametrize(
    'layer',
    [
        SoftmaxAttention(C, 1),
        SpatialReductionAttention(C, 1),
        WindowAttention(C, 1, window_size=4),
        WindowAttention(C, 1, window_size=4, shift=True),
        CrossShapedWindowAttention(C, 1),
        SlideAttention(C, 1, kernel_size=3, mask_borders=True),
        SlideAttention(C, 1, kernel_size=5, mask_borders=True, deploy=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_weights_are_those_of_the_forward_pass(layer, point):
    """One head, identity behind it: the result is the values under the weights."""
    torch.manual_seed(0)
    layer.proj = nn.Identity()
    for name, parameter in layer.named_parameters():
        if name.startswith(('lepe', 'dep_conv1', 'dep_conv.bias')):
            nn.init.zeros_(parameter)
        elif 'bias_table' in name or name.startswith(('qkv', 'q.', 'kv')):
            nn.init.normal_(parameter)
    grid = (8, 12)
    x, look = tokens(grid), Look((32, 48), point)
    (attention,) = layer.explain(x, grid, look=look)
    values = (layer.kv if hasattr(layer, 'kv') else layer.qkv)(x)[0, :, -C:]
    row, column = point[1] // 4, point[0] // 4
    assert attention.query == (row / 8, column / 12, (row + 1) / 8, (column + 1) / 12)
    assert (attention.weights >= 0).all()
    torch.testing.assert_close(attention.weights.sum(), torch.tensor(1.0))
    expected = layer(x, grid)[0, row * 12 + column]
    torch.testing.assert_close(attention.weights.flatten() @ values, expected)


def test_extra_tokens_have_maps():
    layer, grid = SoftmaxAttention(C, 2), (3, 5)
    maps = layer.explain(tokens(grid, extra=2), grid, look=Look((48, 80), (0, 0)))
    assert [attention.query is None for attention in maps] == [False, True, True]
    assert all(0 < attention.weights.sum() < 1 for attention in maps)


@pytest.mark.parametrize('grid', [(9, 11), (1, 5)])
@pytest.mark.parametrize(
    'layer',
    [
        SpatialReductionAttention(C, 2, sr_ratio=2),
        WindowAttention(C, 2, window_size=4, shift=True),
        CrossShapedWindowAttention(C, 2, stripe_width=2),
        SlideAttention(C, 2, kernel_size=7),
        QuadTreeAttention(C, 2, levels=2, topks=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_odd_grids(layer, grid):
    size = (4 * grid[0] - 1, 4 * grid[1] - 3)
    look = Look(size, (size[1] - 1, size[0] - 1))
    for attention in layer.explain(tokens(grid), grid, look=look):
        assert (attention.weights >= 0).all()
        assert 0 < attention.weights.sum() <= 1 + 1e-5
        assert attention.query[2:] == (1, 1)


def node_of(row: int, column: int, columns: int, halvings: int) -> int:
    """Number in quad order of a cell."""
    node = (row >> halvings) * (columns >> halvings) + (column >> halvings)
    for bit in reversed(range(halvings)):
        node = 4 * node + 2 * (row >> bit & 1) + (column >> bit & 1)
    return node


@pytest.mark.parametrize('grid', [(8, 12), (9, 10)])
@pytest.mark.parametrize('kind', ['A', 'B'])
def test_the_surviving_keys_are_those_that_the_op_selected(monkeypatch, kind, grid):
    torch.manual_seed(0)
    layer = QuadTreeAttention(C, 2, levels=3, topks=(3, 2, 2), kind=kind)
    for projection in (layer.q, layer.k):
        nn.init.normal_(projection.weight)
    x, (row, column) = tokens(grid), (5, 7)
    selected = []
    for name in ('coarsest_level', 'quadtree_fine'):
        function = getattr(__import__('mmeffvit.ops.quadtree', fromlist=['']), name)

        def record(*args, function=function, **kwargs):
            result = function(*args, **kwargs)
            selected.append(result[1])
            return result

        monkeypatch.setattr(f'mmeffvit.ops.quadtree.{name}', record)
    layer(x, grid)
    monkeypatch.undo()
    maps = layer.explain(x, grid, look=Look((4 * grid[0], 4 * grid[1]), (4 * column, 4 * row)))
    columns = -(-grid[1] // 4) * 4
    assert len(maps) == 3
    for level, (attention, index) in enumerate(zip(maps, selected)):
        side = 2 ** (2 - level)
        if index is None:  # the finest level attends to all children of what was kept before
            parents = selected[level - 1][:, node_of(row // 2, column // 2, columns // 2, 1)]
            kept = {4 * parent + i for parent in parents.flatten().tolist() for i in range(4)}
        else:
            place = node_of(row // side, column // side, columns // side, level)
            kept = set(index[:, place].flatten().tolist())
        shown = {
            node_of(r, c, columns // side, level) for r, c in attention.weights.nonzero().tolist()
        }
        inside = {
            node_of(r, c, columns // side, level)
            for r in range(attention.weights.shape[0])
            for c in range(attention.weights.shape[1])
        }
        assert shown == kept & inside
        assert (attention.weights >= 0).all()
    if kind == 'B':
        torch.testing.assert_close(maps[-1].weights.sum(), torch.tensor(1.0))
