"""Modules around modules, for comparisons: a fixed grid, other ops, another precision or code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from mmeffvit.ops import use_backend


class OnGrid(nn.Module):
    """A layer of tokens on a fixed grid.

    Args:
        layer (nn.Module): Called as ``layer(x, grid)``.
        grid (tuple[int, int]): Height and width.
    """

    def __init__(self, layer: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.layer, self.grid = layer, grid

    def forward(self, x: Tensor) -> Tensor:
        """Call the layer."""
        return self.layer(x, self.grid)


class PlainOps(nn.Module):
    """A copy of a module that runs on the reference ops.

    Args:
        module (nn.Module): What is copied.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Call the copy."""
        with use_backend('reference'):
            return self.module(*inputs)


class Autocast(nn.Module):
    """A module in bfloat16 mixed precision.

    Args:
        module (nn.Module): What is called.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | Tensor:
        """Call the module."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.module(x)


def with_forwards(
    model: nn.Module, forwards: Mapping[type[nn.Module], Callable], share: bool = False
) -> nn.Module:
    """A copy of a model whose layers compute with other code.

    Args:
        model (nn.Module): What is copied.
        forwards (Mapping[type, Callable]): Class of layers to the function that takes the place of
            their ``forward``; it gets the layer first.
        share (bool): The copy has the model's own parameters.
    """
    model = copy.deepcopy(model, {id(p): p for p in model.parameters()} if share else None)
    for module in model.modules():
        for kind, forward in forwards.items():
            if isinstance(module, kind):
                module.forward = partial(forward, module)
    return model
