from __future__ import annotations

import sys

import pytest
import torch

from mmeffvit.ops import shifted_window_mask, window_attention

SIZE = 3


def _inputs(windows, images=2, heads=2, dtype=torch.float64, requires_grad=True):
    torch.manual_seed(0)
    N = SIZE**2
    shape = (images * windows[0] * windows[1], heads, N, 4)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=requires_grad) for _ in range(3))
    bias = torch.randn(heads, N, N, dtype=dtype, requires_grad=requires_grad)
    return q, k, v, bias


def _visible(shifts=(1, 1)):
    return shifted_window_mask((2 * SIZE, 2 * SIZE), SIZE, shifts).unflatten(0, (2, 2))


@pytest.mark.parametrize('windows', [(1, 1), (1, 3), (3, 1), (2, 3), (4, 4)])
@pytest.mark.parametrize('shifts', [None, (1, 1), (0, 1), (2, 0)])
def test_fast_path_equals_reference(windows, shifts, monkeypatch):
    visible = None if shifts is None else _visible(shifts)
    q, k, v, bias = _inputs(windows)
    # Small chunks, so that they begin inside rows and images.
    module = sys.modules['mmeffvit.ops.window_attention']
    monkeypatch.setattr(module, 'CHUNK_BYTES', 5 * bias.numel() * 8)
    ours = window_attention(q, k, v, bias, windows, visible)
    expected = window_attention(q, k, v, bias, windows, visible, backend='reference')
    torch.testing.assert_close(ours, expected)
    weight = torch.randn_like(ours)
    for a, b in zip(
        *(torch.autograd.grad((o * weight).sum(), (q, k, v, bias)) for o in (ours, expected))
    ):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(window_attention(q, k, v, bias, windows, visible), expected)


def test_gradients():
    inputs = _inputs((2, 2), images=1, heads=1)
    assert torch.autograd.gradcheck(lambda *x: window_attention(*x, (2, 2), _visible()), inputs)


def test_masks_equal_one_per_window():
    """The four kinds of windows are all there are in a rolled grid of any size."""
    rows, columns, N = 3, 4, SIZE**2
    q, k, v, bias = _inputs((rows, columns), images=1, requires_grad=False)
    full = shifted_window_mask((rows * SIZE, columns * SIZE), SIZE, (1, 1))
    mask = torch.where(full, 0.0, -100.0).view(-1, 1, N, N) + bias
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    ours = window_attention(q, k, v, bias, (rows, columns), _visible())
    torch.testing.assert_close(ours, expected)


def test_half_precision_trains_close_to_double():
    q, k, v, bias = _inputs((2, 2))
    half = [x.detach().bfloat16().requires_grad_() for x in (q, k, v)]
    with torch.autocast('cpu', torch.bfloat16):
        out = window_attention(*half, bias.detach().float(), (2, 2), _visible())
    out.float().sum().backward()
    expected = window_attention(q, k, v, bias, (2, 2), _visible())
    torch.testing.assert_close(out.double(), expected, atol=0.05, rtol=0.05)
    assert half[2].grad.dtype == torch.bfloat16 and half[2].grad.isfinite().all()
