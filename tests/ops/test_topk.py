from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mmeffvit.ops.topk import top_locations


@pytest.mark.parametrize(
    ('rows', 'length', 'k'), [(512, 32, 8), (300, 49, 8), (64, 256, 32), (9000, 1, 1)]
)
def test_the_same_places_as_topk(rows, length, k):
    torch.manual_seed(0)
    x = torch.rand(rows, length)
    assert torch.equal(top_locations(x, k), x.topk(k, dim=-1).indices)


def test_ties_go_to_the_first_place():
    x = torch.zeros(600, 32)
    x[:, 5] = 1
    assert torch.equal(top_locations(x, 4), torch.tensor([5, 0, 1, 2]).expand(600, 4))


def test_a_number_that_is_none_comes_first():
    x = torch.rand(600, 32)
    x[:, 7] = torch.nan
    assert (top_locations(x, 2)[:, 0] == 7).all()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_strides_and_gradients(dtype):
    x = torch.rand(32, 600, dtype=dtype, requires_grad=True).t()
    found = top_locations(x, 8)
    assert not found.requires_grad
    assert torch.equal(found, x.topk(8, dim=-1).indices)


def test_few_numbers_and_long_rows():
    for shape in ((2, 9), (40, 300)):
        x = torch.rand(shape)
        assert torch.equal(top_locations(x, 3), x.topk(3, dim=-1).indices)


def test_fake_tensors_have_shapes_alone():
    with FakeTensorMode():
        assert top_locations(torch.rand(600, 32), 8).shape == (600, 8)


def test_tracers_see_standard_operations():
    x = torch.rand(600, 32)
    graph = torch.jit.trace(lambda x: top_locations(x, 8), x)
    assert 'topk' in str(graph.graph)
    assert torch.equal(torch.func.vmap(lambda row: top_locations(row, 8))(x), x.topk(8).indices)
