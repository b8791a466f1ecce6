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
        by_module (dict[str, int]): Multiply-adds per module, by dotted name.
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
    """Count parameters and multiply-adds by running the model on meta tensors: nothing is computed.

    Convolutions and matrix products are counted, those inside attention too (every op of this
    package runs as its reference, scaled dot-product attention as its matrix products). Norms,
    activations, softmax and top-k are not.

    Args:
        model (nn.Module): Any model that runs on the meta device; it is copied, not changed.
        shape (Sequence[int]): Shape of the input, ``(1, 3, H, W)``.
        forward (Callable, optional): ``forward(model, input)``; the model's own call by default.

    Returns:
        Complexity: The counts.
    """
    params = sum(p.numel() for p in model.parameters())
    model = copy.deepcopy(model).to('meta').eval().requires_grad_(False)
    inputs = torch.empty(*shape, device='meta')
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), use_backend('reference'), sdpa_kernel(SDPBackend.MATH), counter:
        (forward or (lambda m, x: m(x)))(model, inputs)
    root = type(model).__name__
    by_module = {
        name.removeprefix(root + '.'): sum(counts.values()) // 2
        for name, counts in counter.get_flop_counts().items()
        if name not in ('Global', root)
    }
    by_op = counter.get_flop_counts().get('Global', {})
    products = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
    attention = sum(by_op.get(op, 0) for op in products) // 2
    return Complexity(params, counter.get_total_flops() // 2, by_module, attention)
