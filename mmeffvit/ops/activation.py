from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu_(x: Tensor) -> Tensor:
    """Exact GELU of a temporary: overwrites it where no gradient is recorded.

    Saves the widest tensor of a feed-forward network, whose pages the allocator would otherwise
    give back and fault in again at every layer.

    Args:
        x (Tensor): A tensor that the caller does not use again.
    """
    if x.requires_grad or torch.compiler.is_compiling():
        return F.gelu(x)
    return torch.ops.aten.gelu_(x)
