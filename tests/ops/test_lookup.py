import pytest
import torch
from torch.autograd import gradcheck

from mmeffvit.ops import lookup_gather, lookup_infuse
from mmeffvit.ops.lookup import Projection, _absorption_pays

B, N, HEADS, D = 2, 40, 4, 16


def _projection(tokens, bias=True, dtype=torch.float64):
    weight = torch.randn(D, D, dtype=dtype) / D**0.5
    return Projection(tokens, weight, torch.randn(D, dtype=dtype) if bias else None)


def _naive_gather(q, k, v):
    """Loops over samples, heads and tokens."""
    out, weights = torch.zeros_like(q), q.new_zeros(len(q), HEADS, q.shape[1], k.shape[1])
    d = D // HEADS
    for b in range(len(q)):
        for h in range(HEADS):
            part = slice(h * d, (h + 1) * d)
            for m in range(q.shape[1]):
                logits = torch.stack([q[b, m, part] @ row[part] for row in k[b]]) / d**0.5
                p = (logits - logits.max()).exp()
                weights[b, h, m] = p = p / p.sum()
                out[b, m, part] = sum(p[n] * v[b, n, part] for n in range(len(p)))
    return out, weights


# With 2 compressed tokens projections are absorbed, with 7 they are not.
@pytest.mark.parametrize('backend', ['reference', 'torch'])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('project_keys', [True, False])
@pytest.mark.parametrize('M', [2, 7])
def test_gather_equals_loops(M, project_keys, bias, backend):
    lookup = torch.randn(B, N, D, dtype=torch.float64)
    queries = torch.randn(B, M, D, dtype=torch.float64)
    keys = _projection(lookup, bias) if project_keys else torch.randn_like(lookup)
    values = _projection(lookup, bias)
    assert _absorption_pays(M, values, HEADS) == (M == 2)
    message, weights = lookup_gather(queries, keys, values, HEADS, backend=backend)
    k = keys.apply() if project_keys else keys
    expected = _naive_gather(queries, k, values.apply())
    assert (message - expected[0]).abs().max() < 1e-10
    assert (weights - expected[1]).abs().max() < 1e-10
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize('backend', ['reference', 'torch'])
@pytest.mark.parametrize('project', [True, False])
@pytest.mark.parametrize('normalise', [True, False])
@pytest.mark.parametrize('M', [2, 7])
def test_infuse_equals_loops(M, normalise, project, backend):
    weights = torch.rand(B, HEADS, M, N, dtype=torch.float64).softmax(-1)
    values = torch.randn(B, M, D, dtype=torch.float64)
    linear = _projection(None)
    projection = (linear.weight, linear.bias) if project else None
    out = lookup_infuse(weights, values, projection, normalise=normalise, backend=backend)
    expected = torch.zeros(B, N, D, dtype=torch.float64)
    d = D // HEADS
    for b in range(B):
        for n in range(N):
            for h in range(HEADS):
                row = weights[b, h, :, n]
                row = row / (row.sum() + 1e-6) if normalise else row
                part = slice(h * d, (h + 1) * d)
                expected[b, n, part] = sum(row[m] * values[b, m, part] for m in range(M))
    if project:
        expected = expected @ linear.weight.T + linear.bias
    assert (out - expected).abs().max() < 1e-10


def test_absorbed_equals_plain_in_single_precision():
    M, N, D, heads = 25, 576, 192, 3
    lookup, queries = torch.randn(2, N, D), torch.randn(2, M, D)
    linear = [
        Projection(lookup, torch.randn(D, D) / D**0.5, 0.1 * torch.randn(D)) for _ in range(2)
    ]
    assert _absorption_pays(M, linear[1], heads)
    projection = linear[0][1:]

    def both_ways(backend):
        message, weights = lookup_gather(queries, *linear, heads, backend=backend)
        return message, lookup_infuse(weights, queries, projection, backend=backend)

    for plain, fast in zip(both_ways('reference'), both_ways('torch')):
        assert (plain - fast).abs().max() / plain.abs().max() < 1e-6


@pytest.mark.parametrize('M', [1, 3])
def test_gradients(M):
    tokens = torch.randn(2, 8, 4, dtype=torch.float64, requires_grad=True)
    queries = torch.randn(2, M, 4, dtype=torch.float64, requires_grad=True)
    matrices = [torch.randn(4, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def both_ways(queries, tokens, bias, *matrices):
        keys, values = Projection(tokens, matrices[0], None), Projection(tokens, matrices[1], bias)
        message, weights = lookup_gather(queries, keys, values, 2, backend='torch')
        return lookup_infuse(weights, message, (matrices[2], bias), normalise=True)

    assert gradcheck(both_ways, (queries, tokens, bias, *matrices))


def test_dropout_leaves_the_kept_weights_alone():
    lookup, queries = torch.randn(1, N, D), torch.randn(1, 2, D)
    values = _projection(lookup, dtype=torch.float32)
    outs = {}
    for backend in ('reference', 'torch'):
        torch.manual_seed(0)
        outs[backend] = lookup_gather(queries, lookup, values, HEADS, dropout=0.5, backend=backend)
    undropped = lookup_gather(queries, lookup, values, HEADS)
    for message, weights in outs.values():
        torch.testing.assert_close(weights, undropped[1])
        torch.testing.assert_close(message, outs['reference'][0], rtol=0, atol=1e-5)
        assert (message - undropped[0]).abs().max() > 1e-3


def test_softmax_is_in_single_precision_under_autocast(monkeypatch):
    seen = []
    softmax = torch.Tensor.softmax

    def record(x, dim):
        seen.append(x.dtype)
        return softmax(x, dim)

    monkeypatch.setattr(torch.Tensor, 'softmax', record)
    lookup = torch.randn(1, N, D)
    with torch.autocast('cpu', torch.bfloat16):
        values = _projection(lookup, dtype=torch.float32)
        message, weights = lookup_gather(lookup[:, :2], lookup, values, HEADS)
    assert seen == [torch.float32]
    assert message.isfinite().all() and weights.dtype == torch.bfloat16
