"""Linear attention, dual softmax, optimal transport and sine positions."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from mmeffvit.ops import (
    best_of_matrix,
    best_pairs,
    dual_softmax,
    linear_attention,
    optimal_transport,
    similarities,
    sine_position_table,
    sine_positions,
)


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Linear attention


def by_weights(q, k, v, mask=None):
    """Attention by the kernel with all weights written out."""
    q, k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    weights = q @ k.transpose(-2, -1)
    if mask is not None:
        weights = weights * mask[:, None, None]
    return weights / (weights.sum(-1, keepdim=True) + 1e-6) @ v


def test_linear_attention_equals_its_weights():
    q, k, v = tokens(2, 3, 7, 4), tokens(2, 3, 9, 4, seed=1), tokens(2, 3, 9, 4, seed=2)
    mask = torch.rand(2, 9) > 0.3
    torch.testing.assert_close(linear_attention(q, k, v), by_weights(q, k, v))
    torch.testing.assert_close(linear_attention(q, k, v, mask), by_weights(q, k, v, mask))


def test_linear_attention_has_its_gradient():
    q, k, v = (tokens(1, 2, 5, 3, seed=i).requires_grad_() for i in range(3))
    mask = torch.tensor([[True, True, False, True, True]])
    assert gradcheck(lambda *x: linear_attention(*x, mask), (q, k, v))


def test_linear_attention_in_half_precision():
    q, k, v = (tokens(1, 2, 50, 8, seed=i) for i in range(3))
    half = linear_attention(*(x.bfloat16() for x in (q, k, v)))
    assert half.dtype == torch.bfloat16
    assert (half.double() - linear_attention(q, k, v)).abs().max() < 0.05
    without = linear_attention(q, k, v, torch.zeros(1, 50, dtype=torch.bool))
    assert without.eq(0).all()


# Dual softmax


@pytest.mark.parametrize('entries', [1, 100, 2**24])
@pytest.mark.parametrize('masked', [False, True])
def test_blocks_find_the_best_pairs_of_the_matrix(entries, masked):
    x, y = tokens(2, 37, 8).float(), tokens(2, 23, 8, seed=1).float()
    masks = (torch.rand(2, 37) > 0.2, torch.rand(2, 23) > 0.2) if masked else (None, None)
    matrix = dual_softmax(similarities(x, y, 0.7, *masks))
    expected = best_of_matrix(matrix)
    found = best_pairs(x, y, 0.7, *masks, block_entries=entries)
    seen = slice(None) if masks[0] is None else masks[0]
    torch.testing.assert_close(found.confidence[seen], expected.confidence[seen])
    assert torch.equal(found.column[seen], expected.column[seen])
    assert torch.equal(found.mutual[seen], expected.mutual[seen])


def test_blocks_need_memory_linear_in_the_tokens():
    """The largest tensor is a block, not the matrix."""
    sizes = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            found = out if isinstance(out, (tuple, list)) else (out,)
            sizes.extend(x.numel() for x in found if isinstance(x, torch.Tensor))
            return out

    x, y = tokens(1, 2000, 4).float(), tokens(1, 1500, 4, seed=1).float()
    with Recorder():
        best_pairs(x, y, 1.0, block_entries=15_000)
    assert max(sizes) <= 15_000


def test_a_half_precision_input_is_matched_in_float32():
    x, y = tokens(1, 20, 8).bfloat16(), tokens(1, 20, 8, seed=1).bfloat16()
    assert similarities(x, y, 1.0).dtype == best_pairs(x, y, 1.0).confidence.dtype == torch.float32


# Optimal transport


@pytest.mark.parametrize('rows_first', [False, True])
def test_transport_has_the_wanted_marginals(rows_first):
    scores, bin_score = tokens(2, 5, 7), torch.tensor(0.3, dtype=torch.float64)
    assignment = optimal_transport(scores, bin_score, 200, rows_first).exp()
    rows, columns = assignment.sum(2), assignment.sum(1)
    torch.testing.assert_close(rows[:, :-1], torch.ones(2, 5, dtype=torch.float64))
    torch.testing.assert_close(columns[:, :-1], torch.ones(2, 7, dtype=torch.float64))
    assert rows[0, -1].item() == pytest.approx(7) and columns[0, -1].item() == pytest.approx(5)


def test_the_potential_that_is_last_is_exact():
    scores, bin_score = tokens(1, 6, 6), torch.tensor(0.0)
    rows = optimal_transport(scores, bin_score, 2, rows_first=False).exp().sum(2)
    columns = optimal_transport(scores, bin_score, 2, rows_first=True).exp().sum(1)
    one = torch.ones(1, 6, dtype=torch.float64)
    torch.testing.assert_close(rows[:, :-1], one)
    torch.testing.assert_close(columns[:, :-1], one)


def test_transport_has_its_gradient_also_beside_forbidden_pairs():
    scores = tokens(1, 4, 4).requires_grad_()
    bin_score = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    forbidden = torch.ones(4, 4, dtype=torch.bool).triu(2)

    def run(scores, bin_score):
        scores = scores.masked_fill(forbidden, -torch.inf)
        return optimal_transport(scores, bin_score, 3).exp()

    assert gradcheck(run, (scores, bin_score))


# Sine positions


def test_a_position_on_a_line():
    found = sine_positions(torch.tensor([0.0, 2.0]), 4)
    expected = torch.tensor([2.0, 2.0, 0.02, 0.02])
    torch.testing.assert_close(found[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(found[1, 0::2], expected[0::2].sin())
    torch.testing.assert_close(found[1, 1::2], expected[1::2].cos())


def test_a_smaller_table_is_a_part_of_a_larger_one():
    like = torch.empty(16)
    small, large = sine_position_table((3, 5), like), sine_position_table((400, 300), like)
    assert large.shape == (1, 400 * 300, 16)
    part = large.unflatten(1, (400, 300))[:, :3, :5].flatten(1, 2)
    torch.testing.assert_close(small, part)
