from __future__ import annotations

import itertools
import math

import pytest
import torch

from mmeffvit.ops import from_quad, quadtree_attention, quadtree_fine, to_quad
from mmeffvit.ops.quadtree import cpu

KINDS = ('A', 'B')


def _problem(
    kind: str, masked: bool, queries: int = 12, keys: int = 7, heads: int = 2, topk: int = 3
):
    """A fine level in float64 whose query and key grids differ."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    q, k, v = random(heads, 4 * queries, 5), random(heads, 4 * keys, 5), random(heads, 4 * keys, 5)
    index = torch.rand(heads, queries, keys, generator=generator).topk(topk).indices
    score = random(heads, queries, topk) if kind == 'A' else None
    mask = torch.rand(heads, 4 * keys, generator=generator) > 0.3 if masked else None
    return q, k, v, index, score, mask


@pytest.mark.parametrize('chunk_bytes', [1, 1 << 20])
@pytest.mark.parametrize(
    'kind, topk, masked', list(itertools.product(KINDS, (0, 4, 99), (False, True)))
)
def test_fast_path_equals_reference(monkeypatch, kind, topk, masked, chunk_bytes):
    monkeypatch.setattr(cpu, 'CHUNK_BYTES', chunk_bytes)
    monkeypatch.setattr(cpu, '_MIN_CHUNK', 5)
    q, k, v, index, score, mask = _problem(kind, masked)
    leaves = [x for x in (q, k, v, score) if x is not None]
    results = []
    for backend in ('reference', 'torch'):
        out, kept, kept_score = quadtree_fine(
            q, k, v, index, score, mask, scale=0.4, topk=topk, backend=backend
        )
        loss = (out * torch.arange(out.numel()).view_as(out).sin()).sum()
        if kind == 'A' and topk:
            loss = loss + (kept_score * torch.arange(kept_score.numel()).view_as(kept_score)).sum()
        with torch.no_grad():
            inference = quadtree_fine(
                q, k, v, index, score, mask, scale=0.4, topk=topk, backend=backend
            )
        assert torch.equal(inference[0], out)
        results.append((out, kept, kept_score, *torch.autograd.grad(loss, leaves)))
    assert (results[0][1] is None) == (topk == 0)
    for reference, fast in zip(*results):
        if reference is not None:
            torch.testing.assert_close(fast, reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('kind', KINDS)
def test_gradcheck(kind):
    q, k, v, index, score, mask = _problem(kind, masked=kind == 'B', queries=2, keys=3)

    def messages(*leaves):
        out, _, kept_score = quadtree_fine(
            *leaves[:3], index, *leaves[3:], key_mask=mask, scale=0.4, topk=2
        )
        return (out, kept_score) if kind == 'A' else out

    assert torch.autograd.gradcheck(messages, [x for x in (q, k, v, score) if x is not None])


def test_second_derivatives_are_refused():
    q, k, v, index, _, _ = _problem('B', masked=False)
    out = quadtree_fine(q, k, v, index, scale=1.0)[0]
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


def test_masked_keys_receive_nothing():
    q, k, v, index, _, mask = _problem('B', masked=True)
    changed = torch.where(mask.unsqueeze(-1), v, v + 1e6)
    before = quadtree_fine(q, k, v, index, None, mask, scale=1.0)[0]
    after = quadtree_fine(q, k, changed, index, None, mask, scale=1.0)[0]
    seen = mask.unflatten(1, (-1, 4)).any(-1).gather(1, index.flatten(1)).view_as(index).any(-1)
    rows = seen.repeat_interleave(4, 1)
    torch.testing.assert_close(before[rows], after[rows])
    assert before.isfinite().all()


def _pyramid(finest: torch.Tensor, levels: int) -> list[torch.Tensor]:
    pyramid = [finest]
    for _ in range(levels - 1):
        pyramid.insert(0, pyramid[0].unflatten(2, (-1, 4)).mean(3))
    return pyramid


@pytest.mark.parametrize('kind', KINDS)
def test_keeping_everything(kind):
    """Nothing is dropped, so both kinds have a dense form."""
    q, k, v = torch.randn(3, 1, 2, 64, 4, dtype=torch.float64).unbind()
    pyramids = [_pyramid(x, 2) for x in (q, k, v)]
    weight = torch.tensor([-1e4, 0.0], dtype=torch.float64)  # kind B: the finest level alone
    out = quadtree_attention(*pyramids, [16, 1], kind, level_weights=weight.softmax(0))
    fine = (q @ k.transpose(2, 3)) / 2
    if kind == 'B':
        expected = fine.softmax(-1) @ v
    else:
        coarse = (pyramids[0][0] @ pyramids[1][0].transpose(2, 3) / 2).softmax(-1)
        coarse = coarse.repeat_interleave(4, 2).unsqueeze(-1)
        weights = fine.unflatten(-1, (-1, 4)).softmax(-1) * coarse
        expected = weights.flatten(3) @ v
    torch.testing.assert_close(out, expected)


def _wave(height: int, width: int):
    """The closed-form maps for which the authors' results are known."""
    c, y, x = torch.meshgrid(
        torch.arange(8.0), torch.arange(float(height)), torch.arange(float(width)), indexing='ij'
    )
    q = 2 * torch.sin(0.7 * c + 0.9 * y + 1.3 * x + 0.05 * x * y)
    k = 2 * torch.cos(0.5 * c + 1.1 * y - 0.6 * x + 0.07 * x * y)
    v = torch.sin(0.3 * c - 0.4 * y + 0.8 * x)
    tokens = (m.permute(1, 2, 0).reshape(1, height * width, 8) for m in (q, k, v))
    return tuple(to_quad(t, (height, width), 2, num_heads=2) for t in tokens)


@pytest.mark.parametrize(
    'kind, total, absolute, first',
    [
        ('A', 59.345438, 69.757734, (-0.031932, -0.008161, 0.016338, 0.039378)),
        ('B', 21.110590, 167.738896, (-0.028086, -0.044693, -0.057307, -0.064802)),
    ],
)
@pytest.mark.parametrize('backend', ['reference', 'torch'])
def test_known_answers(kind, total, absolute, first, backend):
    pyramids = [_pyramid(x, 3) for x in _wave(8, 12)]
    weight = torch.tensor([0.2, -0.1, 0.4])
    out = quadtree_attention(
        *pyramids, [3, 2, 2], kind, level_weights=weight.softmax(0), backend=backend
    )
    out = from_quad(out, (8, 12), 2)
    assert math.isclose(out.sum().item(), total, rel_tol=1e-4)
    assert math.isclose(out.abs().sum().item(), absolute, rel_tol=1e-4)
    torch.testing.assert_close(out[0, 0, :4], torch.tensor(first), atol=2e-6, rtol=1e-4)


def test_lone_level_of_kind_a():
    q, k, v = ([x] for x in _wave(8, 12))
    dropped = quadtree_attention(q, k, v, [3], 'A', drop_lone_level=True)
    first = [0.042801, 0.054655, 0.061627, 0.063094, 0.066426, 0.059501, 0.047261, 0.030799]
    torch.testing.assert_close(
        dropped[0, :, 0].flatten(), torch.tensor(first), atol=2e-6, rtol=1e-4
    )
    full = quadtree_attention(q, k, v, [3], 'A')
    expected = (q[0] @ k[0].transpose(2, 3) / 2).softmax(-1) @ v[0]
    torch.testing.assert_close(full, expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_selects_in_float32(dtype):
    pyramids = [[x.to(dtype) for x in _pyramid(y, 3)] for y in _wave(8, 12)]
    weight = torch.tensor([0.25, 0.25, 0.5], dtype=dtype)
    out = quadtree_attention(*pyramids, [3, 2, 2], level_weights=weight)
    wide = [[x.float() for x in pyramid] for pyramid in pyramids]
    assert out.dtype == torch.float32
    assert torch.equal(out, quadtree_attention(*wide, [3, 2, 2], level_weights=weight.float()))


def test_bad_arguments():
    q = [torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 16, 2)]
    weight = torch.zeros(2)
    with pytest.raises(ValueError, match="kinds 'A' and 'B', not 'C'"):
        quadtree_attention(q, q, q, [1, 1], 'C', level_weights=weight.softmax(0))
    with pytest.raises(ValueError, match='1 value levels do not fit 2'):
        quadtree_attention(q, q, q[:1], [1, 1], 'A')
    with pytest.raises(ValueError, match='0 value levels do not fit 2'):
        quadtree_attention(q, q, [], [1, 1], level_weights=weight[:0])
    with pytest.raises(ValueError, match='2 query and 1 key levels'):
        quadtree_attention(q, q[:1], q, [1, 1], level_weights=weight.softmax(0))
    with pytest.raises(ValueError, match='2 positive numbers'):
        quadtree_attention(q, q, q, [1], level_weights=weight.softmax(0))
    with pytest.raises(ValueError, match='four times'):
        quadtree_attention([q[1], q[0]], q, q, [1, 1], level_weights=weight.softmax(0))
    with pytest.raises(ValueError, match='level_weights'):
        quadtree_attention(q, q, q, [1, 1])
