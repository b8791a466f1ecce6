from __future__ import annotations

import torch
import torch.nn.functional as F

from mmeffvit.ops import gelu_


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
