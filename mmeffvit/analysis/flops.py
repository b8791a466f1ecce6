from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..ops import use_backend


@dataclass(frozen=True)
class Complexity:
    """Size and cost of a model.

    Attributes:
        params (int): Number of parameters, trainable or not.
        macs (int): Multiply-adds of one forward pass, attention products included; the "FLOPs" of
            the papers.
        by_module (dict[str, int]): Multiply-adds per module, by dotted name, in the order of the
            model; a module holds those of its children.
        attention_macs (int): Of ``macs``, products of two activations. Counters that hook
            convolutions and linear layers, such as mmdet's, leave them out.
    """

    params: int
    macs: int
    by_module: dict[str, int]
    attention_macs: int = 0


def count_complexity(
    model: nn.Module,
    shape: Sequence[int] = (1, 3, 224, 224),
    forward: Callable[[nn.Module, Tensor], object] | None = None,
) -> Complexity:
    """Count parameters and multiply-adds by a forward pass on meta tensors.

    Convolutions and matrix products are counted, those inside attention too: scaled dot-product
    attention as its matrix products, and every op of this package as its reference. The fast paths
    compute the same numbers, some by products that torch's counter does not see (Slide, any Triton
    kernel) or by fewer of them (LookupViT's absorbed projections). Norms, activations, softmax,
    sums and top-k are not counted.

    Args:
        model (nn.Module): Any model that runs on the meta device; it is copied, not changed.
        shape (Sequence[int]): Shape of the input, ``(1, 3, H, W)``.
        forward (Callable, optional): ``forward(model, input)``; the model's own call by default.

    Returns:
        Complexity: The counts.
    """
    params = sum(p.numel() for p in model.parameters())
    model = copy.deepcopy(model).to('meta').eval().requires_grad_(False)
    run = _Run(model, forward or (lambda m, x: m(x)))
    inputs = torch.empty(*shape, device='meta')
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), use_backend('reference'), sdpa_kernel(SDPBackend.MATH), counter:
        run(inputs)
    counts = counter.get_flop_counts()
    by_op = counts.get('Global', {})
    products = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
    attention = sum(by_op.get(op, 0) for op in products) // 2
    by_module = _by_module(model, counts)
    return Complexity(params, counter.get_total_flops() // 2, by_module, attention)


class _Run(nn.Module):
    """Wrapper so that the counter names modules by their place in the model."""

    def __init__(self, model: nn.Module, forward: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.model = model
        self.run = forward

    def forward(self, x: Tensor) -> object:
        return self.run(self.model, x)


def _by_module(model: nn.Module, counts: dict[str, dict]) -> dict[str, int]:
    """Counts per module; one whose hooks were bypassed gets the sum of its children."""
    found: dict[str, int] = {}
    for name, module in reversed(list(model.named_modules())):
        if name:
            children = sum(found.get(f'{name}.{child}', 0) for child, _ in module.named_children())
            own = sum(counts.get(f'{_Run.__name__}.model.{name}', {}).values()) // 2
            found[name] = max(own, children)
    return {name: macs for name, macs in reversed(found.items()) if macs}
