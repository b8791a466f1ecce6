"""The kernels against the reference in float64: interpreted on the CPU, or on CUDA if there is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from helpers.triton_runs import DEVICE, needs_triton
from mmeffvit.ops import quadtree_attention, quadtree_fine, use_backend

pytestmark = needs_triton

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@dataclass
class Level:
    """Tensors of a fine level and what is asked of it; grids of queries and keys differ."""

    q: Tensor
    k: Tensor
    v: Tensor
    index: Tensor
    parent_score: Tensor | None
    key_mask: Tensor | None
    topk: int

    def run(self, backend: str) -> list[Tensor]:
        """Message, kept nodes, scores; gradients of everything that has one."""
        leaves = [x.detach().requires_grad_() for x in (self.q, self.k, self.v)]
        score = self.parent_score
        if score is not None:
            score = score.detach().requires_grad_()
            leaves.append(score)
        out, kept, kept_score = quadtree_fine(
            *leaves[:3],
            self.index,
            score,
            self.key_mask,
            scale=0.3,
            topk=self.topk,
            backend=backend,
        )
        loss = (out * _wave(out)).sum()
        if kept is not None and score is not None:
            loss = loss + (kept_score * _wave(kept_score)).sum()
        outputs = [x for x in (out, kept, kept_score) if x is not None]
        return outputs + list(torch.autograd.grad(loss, leaves))

    def double(self) -> Level:
        """The same numbers in float64."""
        floats = {x: getattr(self, x) for x in ('q', 'k', 'v', 'parent_score')}
        return replace(self, **{x: None if y is None else y.double() for x, y in floats.items()})


def _wave(like: Tensor) -> Tensor:
    return torch.arange(like.numel(), device=like.device).view_as(like).sin()


def make_level(
    kind='B', topk=0, masked=False, D=20, K=3, dtype=torch.float32, parents=5, key_parents=7
) -> Level:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    heads = 2
    q = random(heads, 4 * parents, D)
    k, v = random(heads, 4 * key_parents, D), random(heads, 4 * key_parents, D)
    index = torch.rand(heads, parents, key_parents, generator=generator).topk(K).indices
    score = torch.rand(heads, parents, K, generator=generator).to(DEVICE) if kind == 'A' else None
    mask = None
    if masked:
        mask = torch.rand(heads, 4 * key_parents, generator=generator) > 0.3
        mask.unflatten(1, (-1, 4))[0].scatter_(0, index[0, 0, :, None].expand(-1, 4), False)
        mask = mask.to(DEVICE)  # the first four queries of the first head see nothing
    return Level(q, k, v, index.to(DEVICE), score, mask, topk)


def assert_equals_float64(level: Level) -> list[Tensor]:
    results = level.run('triton')
    for result, expected in zip(results, level.double().run('reference')):
        tolerance = TOLERANCE[level.q.dtype] * max(1.0, expected.abs().max().item())
        torch.testing.assert_close(result.to(expected.dtype), expected, rtol=0, atol=tolerance)
    return results


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize(
    'options',
    [
        dict(kind='B', topk=0, masked=True),
        dict(kind='B', topk=5, D=40, K=5),
        dict(kind='A', topk=0),
        dict(kind='A', topk=4, masked=True, K=4),
    ],
    ids=str,
)
def test_values_and_gradients(options, dtype):
    assert_equals_float64(make_level(**options, dtype=dtype))


@pytest.mark.parametrize(
    'options',
    [
        dict(topk=99, K=1),
        dict(D=72, topk=3, masked=True),
        dict(D=72, dtype=torch.float16),
        dict(D=128, K=5, key_parents=5, parents=2, kind='A', topk=8),
        dict(K=17, key_parents=17, parents=2, topk=8, masked=True),
        dict(D=1, K=2),
    ],
    ids=str,
)
def test_odd_shapes(options):
    assert_equals_float64(make_level(**options))


@pytest.mark.parametrize('kind', ['A', 'B'])
def test_long_lists_are_split(monkeypatch, kind):
    from mmeffvit.ops.quadtree import triton as kernels

    monkeypatch.setattr(kernels, 'LIST_LENGTH', 8)
    level = make_level(kind, topk=2, K=2, parents=19, key_parents=6, masked=True)
    level.index[:] = torch.tensor([1, 4], device=DEVICE)  # twice 19 entries; nobody selects others
    level.index[1, :9, 0] = 5
    nodes = level.index.flatten(0, 1).int()
    nodes[19:] += 6
    _, first, further, owner = kernels._selections(nodes, 12)
    assert first.diff().tolist() == [0, 19, 0, 0, 19, 0, 0, 10, 0, 0, 19, 9]
    assert further.diff().tolist() == [0, 2, 0, 0, 2, 0, 0, 1, 0, 0, 2, 1]
    assert owner.tolist() == [1, 1, 4, 4, 7, 10, 10, 11, 12]
    results = assert_equals_float64(level)
    for once, again in zip(results, level.run('triton')):
        assert torch.equal(once, again)
    grad_k, grad_v = results[4:6]
    assert not grad_k[0, :4].any() and not grad_v[0, :4].any()


def test_a_node_may_be_listed_twice():
    level = make_level(K=4)
    level.index[..., 3] = level.index[..., 0]
    assert_equals_float64(level)


def test_layouts_and_dtypes_may_differ():
    level = make_level(topk=2)
    level.q = level.q.transpose(1, 2).contiguous().transpose(1, 2)
    level.k = level.k.half()
    level.index = level.index.int()
    expected = level.double().run('reference')
    for result, other in zip(level.run('triton'), expected):
        torch.testing.assert_close(result.to(other.dtype), other, rtol=0, atol=2e-3)


def test_second_derivatives_are_refused():
    level = make_level()
    q = level.q.requires_grad_()
    out = quadtree_fine(q, level.k, level.v, level.index, scale=1.0, backend='triton')[0]
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


def test_backward_keeps_four_bytes_per_query_and_per_candidate():
    level = make_level(D=32, parents=8, key_parents=8, topk=4)
    q, k, v = (x.requires_grad_() for x in (level.q, level.k, level.v))
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.setdefault(x.data_ptr(), x), lambda x: x
    ):
        quadtree_fine(q, k, v, level.index, scale=1.0, topk=4, backend='triton')
    for leaf in (q, k, v):
        del kept[leaf.data_ptr()]
    sizes = {x.dtype: x.numel() for x in kept.values()}
    assert len(kept) == 2
    assert sizes == {torch.float32: q[..., 0].numel(), torch.int32: level.index.numel()}


@pytest.mark.parametrize(('kind', 'masked'), [('A', True), ('B', False)])
def test_whole_attention(kind, masked):
    """Three levels, nine heads, other grids of keys; under the context as users set it."""
    generator = torch.Generator().manual_seed(0)
    finest = [torch.randn(1, 9, n, 8, generator=generator).to(DEVICE) for n in (48, 32, 32)]
    leaves = [x.requires_grad_() for x in finest]
    weight = torch.tensor([0.2, -0.1, 0.4], device=DEVICE, requires_grad=True)
    masks = None
    if masked:
        masks = [torch.rand(1, 32, generator=generator).to(DEVICE) > 0.5]
        for _ in range(2):
            masks.insert(0, masks[0].unflatten(1, (-1, 4)).any(-1))

    def attend() -> list[Tensor]:
        pyramids = []
        for leaf in leaves:
            pyramid = [leaf]
            for _ in range(2):
                pyramid.insert(0, pyramid[0].unflatten(2, (-1, 4)).mean(3))
            pyramids.append(pyramid)
        out = quadtree_attention(
            *pyramids, [3, 3, 1], kind, level_weights=weight.softmax(0), key_masks=masks
        )
        inputs = [*leaves, weight] if kind == 'B' else leaves
        return [out, *torch.autograd.grad((out * _wave(out)).sum(), inputs)]

    with use_backend('triton'):
        results = attend()
    with use_backend('reference'):
        expected = attend()
    for result, other in zip(results, expected):
        torch.testing.assert_close(result, other, rtol=1e-4, atol=1e-5)


def test_half_precision_reaches_the_kernels(monkeypatch):
    """The attention widens nothing before a kernel; what it selects is what float32 selects."""
    from mmeffvit.ops.quadtree import triton as kernels

    seen = set()
    launch = kernels._query_launch
    monkeypatch.setattr(
        kernels, '_query_launch', lambda K, D, dtype: seen.add(dtype) or launch(K, D, dtype)
    )
    x = torch.randn(1, 2, 16, 8, generator=torch.Generator().manual_seed(0)).to(DEVICE).half()
    pyramid = [x.unflatten(2, (-1, 4)).mean(3), x]
    weight = torch.zeros(2, device=DEVICE)
    out = quadtree_attention(
        *[pyramid] * 3, [2, 1], level_weights=weight.softmax(0), backend='triton'
    )
    expected = quadtree_attention(
        *[pyramid] * 3, [2, 1], level_weights=weight.softmax(0), backend='reference'
    )
    assert seen == {torch.float16} and out.dtype == torch.float32
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-3)


def test_too_many_candidates_are_refused_by_name():
    level = make_level(K=33, key_parents=33)
    with pytest.raises(ValueError, match='33 candidates are over 32'):
        level.run('triton')


def test_no_queries():
    level = make_level()
    empty = level.q[:0]
    with pytest.raises(ValueError, match='no queries'):
        quadtree_fine(empty, empty, empty, level.index[:0], scale=1.0, backend='triton')
