"""Float32 inside an op, whatever autocast is around it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def accurate(x: Tensor) -> Tensor:
    """Widen half precision to float32; float32 and float64 pass."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Switch autocast off on the tensor's device; devices that have none (meta) pass."""
    # The compiler cannot trace the probe, and compiles for real devices only.
    if not torch.compiler.is_compiling() and not torch.amp.is_autocast_available(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
