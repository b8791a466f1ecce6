from __future__ import annotations

import pytest
import torch
from torch import nn

from mmeffvit.analysis.attention import AttentionQuery, explain
from mmeffvit.layers import QuadTreeAttention

C = 8


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
    x, (row, column) = torch.randn(1, grid[0] * grid[1], C), (5, 7)
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
    query = AttentionQuery((4 * grid[0], 4 * grid[1]), (4 * column, 4 * row))
    maps = explain(layer, x, grid, query=query)
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
