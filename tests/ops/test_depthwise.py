from __future__ import annotations

import pytest
import torch

from mmeffvit.ops import depthwise_conv


@pytest.mark.parametrize('kernel_size', [1, 3, 5, 7, 9])
@pytest.mark.parametrize('shape', [(2, 3, 6, 8), (3, 4, 1, 1), (1, 2, 2, 11), (2, 5, 9, 1)])
def test_gradients_are_those_of_the_reference(kernel_size, shape):
    torch.manual_seed(0)
    inputs = [
        torch.randn(shape, dtype=torch.float64),
        torch.randn(shape[1], 1, kernel_size, kernel_size, dtype=torch.float64),
        torch.randn(shape[1], dtype=torch.float64),
    ]
    weights = torch.randn(shape, dtype=torch.float64)
    outs, grads = [], []
    for backend in ('reference', 'torch'):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        outs.append(depthwise_conv(*leaves, backend=backend))
        grads.append(torch.autograd.grad((outs[-1] * weights).sum(), leaves))
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def test_gradcheck():
    inputs = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 3, 4), (2, 1, 5, 5), (2,))
    ]
    assert torch.autograd.gradcheck(depthwise_conv, inputs)
    assert torch.autograd.gradcheck(lambda x, w: depthwise_conv(x, w), inputs[:2])


def test_frozen_inputs_get_no_gradient():
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(2, 1, 5, 5, requires_grad=True)
    depthwise_conv(x, weight).sum().backward()
    assert x.grad is None and weight.grad is not None


def test_autocast():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 4, 6, 7), torch.randn(4, 1, 5, 5), torch.randn(4)]
    grads = []
    for backend in ('reference', 'torch'):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        with torch.autocast('cpu', torch.bfloat16):
            out = depthwise_conv(*leaves, backend=backend)
        assert out.dtype == torch.bfloat16
        grads.append(torch.autograd.grad(out.float().square().sum(), leaves))
    for actual, expected in zip(*grads):
        assert actual.dtype == torch.float32
        assert (actual - expected).abs().max() < 0.02 * expected.abs().max()
