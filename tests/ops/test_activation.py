from __future__ import annotations

import torch
import torch.nn.functional as F

from mmeffvit.ops import gelu_, quick_gelu


def test_overwrites_only_where_no_gradient_is_recorded():
    x = torch.randn(5, 7)
    expected = F.gelu(x)
    leaf = x.clone().requires_grad_()
    out = gelu_(leaf * 1)
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    torch.testing.assert_close(
        leaf.grad, torch.autograd.functional.jacobian(lambda t: F.gelu(t).sum(), x)
    )
    assert gelu_(x) is x
    torch.testing.assert_close(x, expected)


def test_quick_gelu_is_the_approximation_of_clip():
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(quick_gelu(x), x / (1 + (-1.702 * x).exp()))
    assert (quick_gelu(x) - torch.nn.functional.gelu(x)).abs().max() < 0.021
    assert torch.autograd.gradcheck(quick_gelu, x)
