"""Places of the largest entries of many short rows."""

from __future__ import annotations

import torch
from torch import Tensor

#: Rows up to this length are sorted whole, from this many numbers on.
LONGEST_ROW, FEWEST_NUMBERS = 256, 8192


def top_locations(x: Tensor, k: int) -> Tensor:
    """Find the ``k`` largest entries of every row, best first.

    PyTorch selects row by row with unpredictable branches. NumPy's sort of integers has none, so
    that sorting a short row whole takes a quarter of the time: the bits of a float that is not
    negative are ordered as the float is, and the bits below them hold the place. Ties go to the
    first place.

    Args:
        x (Tensor): ``(..., N)``, no entry negative.
        k (int): At most N.

    Returns:
        Tensor: Places ``(..., k)``, int64; no gradient flows through them.
    """
    length = x.shape[-1]
    x = x.detach()
    if not _is_readable(x) or length > LONGEST_ROW or x.numel() < FEWEST_NUMBERS:
        return x.topk(k, dim=-1).indices
    bits = (length - 1).bit_length()
    places = torch.arange(length - 1, -1, -1)
    keys = (x.contiguous().view(torch.int32).to(torch.int64) << bits) | places
    keys.numpy().sort(axis=-1)
    return length - 1 - (keys[..., -k:].flip(-1) & ((1 << bits) - 1))


def _is_readable(x: Tensor) -> bool:
    """Whether NumPy can read the bits: float32 on a CPU, outside tracers, fakes and transforms."""
    plain = type(x) is Tensor and (x.device.type, x.dtype) == ('cpu', torch.float32)
    return plain and not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or torch._C._are_functorch_transforms_active()
    )
