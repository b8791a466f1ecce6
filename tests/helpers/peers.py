"""Comparison with models of the libraries that write checkpoints, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS


def randomised(model: nn.Module) -> nn.Module:
    """Fill a model with random weights, in evaluation mode and float64."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    model.eval()  # some of OpenMMLab's return nothing
    return model.double()


def ours_of(theirs: nn.Module, family: str, given: dict | None = None, **options) -> nn.Module:
    """Our model of a state dict, converted with ``given``, its config changed by ``options``."""
    result = convert(theirs.state_dict(), family, **(given or {}))
    assert result.is_exact, (result.missing, result.unexpected, result.mismatched)
    ours = MODELS.build({**result.config, **options}).double().eval()
    ours.load_state_dict(result.state, strict=False)
    return ours


def assert_same(
    ours: Callable[[Tensor], Sequence[Tensor]],
    theirs: Callable[[Tensor], Sequence[Tensor]],
    image: Tensor,
) -> None:
    """Compare maps and the image's gradients, which pass every layer."""
    results = []
    for model in (ours, theirs):
        x = image.clone().requires_grad_()
        outs = model(x)
        torch.manual_seed(1)
        sum((out * torch.randn(out.shape, dtype=out.dtype)).sum() for out in outs).backward()
        results.append((*outs, x.grad))
    assert len(results[0]) == len(results[1])
    for actual, expected in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
