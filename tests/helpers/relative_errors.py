"""Errors of operators and models relative to the norm of what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def relative_error(out: Tensor, expected: Tensor) -> float:
    """Norm of the difference over that of ``expected``; infinite where ``out`` is not finite."""
    if out.shape != expected.shape or not out.isfinite().all():
        return float('inf')
    out, expected = out.detach().double().cpu(), expected.detach().double().cpu()
    return ((out - expected).norm() / expected.norm().clamp(min=1e-30)).item()


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill what ``torch.empty`` returns with NaN, so that an element nobody wrote is found."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def wave(like: Tensor) -> Tensor:
    """Fixed weights of a sum of outputs, so that no gradient vanishes by symmetry."""
    steps = torch.arange(like.numel(), device=like.device, dtype=torch.float64)
    return (0.7 * steps).sin().view_as(like).to(like.dtype)


def values_and_gradients(run: Callable, leaves: Sequence[Tensor]) -> tuple[list, list]:
    """Floating-point outputs of ``run(*leaves)``, and the gradients of their weighted sum."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    with poisoned_memory():
        outputs = run(*leaves)
        differentiable = [x for x in outputs if x.requires_grad]
        weights = [wave(x) for x in differentiable]
        grads = torch.autograd.grad(differentiable, leaves, weights)
    return list(outputs), list(grads)
