"""Every model on the device against itself in float32 on the CPU, forward and backward.

Without a GPU the tests still compare half precisions with float32.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from helpers.models import SMALLEST
from helpers.relative_errors import relative_error, wave
from helpers.triton_runs import DEVICE
from mmeffvit import get_model

SIZE = (97, 71)
#: Largest relative errors of outputs and of all gradients together. Rounding may flip a top-k.
LIMITS = {torch.float32: (2e-3, 1e-2), torch.float16: (2e-2, 1e-1), torch.bfloat16: (1e-1, 3e-1)}
ON_CPU_TOO = ('quadtree_b0', 'slide_pvtv2_b0')
NAMES = [
    name if name in ON_CPU_TOO else pytest.param(name, marks=pytest.mark.cuda) for name in SMALLEST
]
CASES = [
    pytest.param(torch.float32, False, marks=pytest.mark.cuda, id='float32'),
    *(
        pytest.param(dtype, autocast, id=f'{str(dtype)[6:]}-{"autocast" if autocast else "plain"}')
        for dtype in (torch.float16, torch.bfloat16)
        for autocast in (False, True)
    ),
]


def build(name: str) -> nn.Module:
    """The smallest model of a family, the same at every call."""
    torch.manual_seed(0)
    return get_model(name).eval()


def run(model: nn.Module, x: Tensor, autocast: torch.dtype | None = None) -> tuple[list, Tensor]:
    """Outputs, and the gradients of all parameters in one vector."""
    with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
        out = model(x)
    outputs = [out] if isinstance(out, Tensor) else list(out)
    loss = sum((y.float() * wave(y.float())).sum() / y.numel() ** 0.5 for y in outputs)
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return [y.detach() for y in outputs], torch.cat([g.detach().double().flatten() for g in grads])


@cache
def expected(name: str) -> tuple[Tensor, list[Tensor], Tensor]:
    """Input, outputs and gradients in float32 on the CPU."""
    model = build(name)
    frames = getattr(model, 'num_frames', None)
    x = torch.randn(2, 3, *([frames] if frames else []), *SIZE)
    return x, *run(model, x)


@pytest.mark.parametrize('dtype, autocast', CASES)
@pytest.mark.parametrize('name', NAMES)
def test_equals_float32_on_the_cpu(name, dtype, autocast, record_property):
    x, outputs, grads = expected(name)
    plain = torch.float32 if autocast else dtype
    model = build(name).to(DEVICE, plain)
    results, found = run(model, x.to(DEVICE, plain), dtype if autocast else None)
    assert len(results) == len(outputs)
    out_error = max(relative_error(a, b) for a, b in zip(results, outputs))
    grad_error = relative_error(found, grads)
    record_property('errors', {'values': out_error, 'gradients': grad_error})
    limits = LIMITS[dtype]
    record_property('limit', limits[0])
    assert out_error <= limits[0] and grad_error <= limits[1], (out_error, grad_error)
