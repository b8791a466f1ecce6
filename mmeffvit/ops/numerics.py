"""Precision of the arithmetic inside an op, and exact GELU in place."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

_autocast_available = torch.amp.is_autocast_available  # pyright: ignore[reportPrivateImportUsage]


def accurate(x: Tensor) -> Tensor:
    """Cast half precision to float32; float32 and float64 are returned unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Disable autocast on the tensor's device; a null context on devices without it (meta)."""
    # The compiler cannot trace the probe, and compiles for real devices only.
    if not torch.compiler.is_compiling() and not _autocast_available(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def gelu_(x: Tensor) -> Tensor:
    """Exact GELU, in place where no gradient is recorded.

    In place it avoids a second copy of the widest tensor of a feed-forward network, whose pages
    the allocator would otherwise return to the system and fault in again at every layer.

    Args:
        x (Tensor): A temporary that the caller does not use again.
    """
    if x.requires_grad or torch.compiler.is_compiling():
        return F.gelu(x)
    return torch.ops.aten.gelu_(x)


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU with which OpenAI's CLIP was trained."""
    return x * torch.sigmoid(1.702 * x)
