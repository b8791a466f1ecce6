"""Shared building blocks: drop path, layer scale, activation checkpointing, initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Conv = TypeVar('Conv', bound=nn.Conv2d | nn.Conv3d)


class DropPath(nn.Module):
    """Per-sample stochastic depth of a residual branch (Huang et al., ECCV 2016).

    Args:
        drop_prob (float): Probability in [0, 1) of zeroing a sample's branch in training; kept
            branches are scaled by ``1 / (1 - drop_prob)``.

    Raises:
        ValueError: If ``drop_prob`` is outside [0, 1).
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f'drop_prob={drop_prob} must be in [0, 1).')
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of ``x`` of shape ``(B, ...)``."""
        return self.drop_jointly(x)[0]

    def drop_jointly(self, *branches: Tensor) -> tuple[Tensor, ...]:
        """Drop the same samples of several branches ``(B, ...)``."""
        if not self.training or self.drop_prob == 0:
            return branches
        keep = 1 - self.drop_prob
        mask = branches[0].new_empty(len(branches[0])).bernoulli_(keep).div_(keep)
        return tuple(branch * mask.view(-1, *(1,) * (branch.ndim - 1)) for branch in branches)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f'drop_prob={self.drop_prob}'


def drop_path_schedule(rate: float, num_blocks: int) -> list[float]:
    """Return drop rates that grow linearly from 0 in the first block to ``rate`` in the last."""
    return [rate * i / max(1, num_blocks - 1) for i in range(num_blocks)]


class LayerScale(nn.Module):
    """Learned scale per channel of a residual branch (Touvron et al., "CaiT", section 2.2).

    Args:
        embed_dims (int): Width C of the tokens.
        value (float): Initial value of all scales.
    """

    def __init__(self, embed_dims: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((embed_dims,), float(value)))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply tokens ``(B, N, C)`` by the scales."""
        return x * self.weight


def build_layer_scale(embed_dims: int, value: float | None) -> nn.Module:
    """Build a :class:`LayerScale`, or an identity if ``value`` is None."""
    return nn.Identity() if value is None else LayerScale(embed_dims, value)


class RecomputingBlock(BaseModule):
    """Base class of blocks with activation checkpointing of the whole block or a part of it.

    Attributes:
        checkpoint_modes (tuple): Allowed values of ``with_cp``; True means ``'all'``.

    Args:
        with_cp (bool | str): The part that is recomputed in backward.

    Raises:
        ValueError: If ``with_cp`` is not one of :attr:`checkpoint_modes`.
    """

    checkpoint_modes: ClassVar[tuple[bool | str, ...]] = (False, True, 'all', 'mlp')

    def __init__(self, with_cp: bool | str = False) -> None:
        super().__init__()
        if with_cp not in self.checkpoint_modes:
            raise ValueError(f'with_cp={with_cp!r} must be one of {self.checkpoint_modes}.')
        self.with_cp = with_cp

    def recompute(self, part: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function(*args)``; recompute it in backward if ``with_cp`` names this part."""
        tensors = (arg for arg in args if isinstance(arg, Tensor))
        chosen = 'all' if self.with_cp is True else self.with_cp
        if chosen == part and self.training and any(x.requires_grad for x in tensors):
            return checkpoint(function, *args, use_reentrant=False)
        return function(*args)


def init_linear(linear: nn.Linear, std: float = 0.02) -> nn.Linear:
    """Initialise a linear layer as ViTs do: truncated normal weight, zero bias."""
    nn.init.trunc_normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def init_conv(conv: Conv) -> Conv:
    """Initialise a convolution as PVT does: normal weight by fan-out per group, zero bias."""
    fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def make_depthwise_conv(embed_dims: int, kernel_size: int = 3) -> nn.Conv2d:
    """Build a depthwise convolution with zero padding and bias, initialised as in PVT."""
    return init_conv(
        nn.Conv2d(embed_dims, embed_dims, kernel_size, padding=kernel_size // 2, groups=embed_dims)
    )
