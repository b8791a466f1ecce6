from __future__ import annotations

import sys

import pytest
import torch

from mmeffvit.ops import softmax_attention

MODULE = sys.modules['mmeffvit.ops.softmax_attention']


def _inputs(dtype, shape=(2, 3, 50, 8), keys=37):
    torch.manual_seed(0)
    B, heads, N, D = shape
    return [torch.randn(B, n, heads, D).to(dtype).transpose(1, 2) for n in (N, keys, keys)]


# One row at a time, some rows of a head, some heads, all at once.
@pytest.mark.parametrize('chunk_bytes', [1, 20 * 37 * 2, 120 * 37 * 2, 2**20])
def test_bfloat16_in_chunks_is_attention(chunk_bytes, monkeypatch):
    monkeypatch.setattr(MODULE, 'CHUNK_BYTES', chunk_bytes)
    q, k, v = _inputs(torch.bfloat16)
    expected = softmax_attention(*(x.double() for x in (q, k, v)), backend='reference')
    out = softmax_attention(q, k, v)
    assert out.dtype == torch.bfloat16
    assert (out - expected).norm() < 1e-2 * expected.norm()


def test_other_inputs_take_the_fused_kernel(monkeypatch):
    monkeypatch.setattr(MODULE, '_by_chunks', None)
    bias = torch.randn(3, 50, 37)
    inputs = _inputs(torch.float32)
    expected = softmax_attention(*inputs, bias, backend='reference')
    assert torch.equal(softmax_attention(*inputs, bias), expected)
    q, k, v = (x.requires_grad_() for x in _inputs(torch.bfloat16))
    softmax_attention(q, k, v).sum().backward()
    assert q.grad.isfinite().all()
