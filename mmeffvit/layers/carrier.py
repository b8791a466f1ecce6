from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Carrier(NamedTuple):
    """What travels from block to block beside the residual stream; immutable.

    A block returns a new carrier, so a chain restarts at every block that attends, and
    activation checkpointing recomputes a block from exactly what it was given.

    Attributes:
        mixed (Tensor): Output ``(B, N, C)`` of the last block's attention layer, before drop path
            (the Z^MSA of SkipAt).
    """

    mixed: Tensor
