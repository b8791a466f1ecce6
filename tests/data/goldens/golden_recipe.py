"""Weights and inputs of the recorded outputs, drawn again from names and seeds.

A value depends only on the name and the shape of its tensor, so a recording holds key names, shapes
and outputs, and no weights. numpy's legacy ``RandomState`` is used because its stream is frozen:
the numbers do not depend on the torch version, the device or the number of threads.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

RECIPE_VERSION = 1


def fill_state(state: nn.Module | Mapping[str, Tensor | Sequence[int]], salt: str = '') -> dict:
    """Values for every entry of a state dict.

    Args:
        state (nn.Module | Mapping): A module, or key names with tensors or shapes. Integer tensors
            (index tables) are returned unchanged.
        salt (str): Draws other values for the same names.

    Returns:
        dict[str, Tensor]: Key name to tensor.
    """
    if isinstance(state, nn.Module):
        state = state.state_dict()
    filled = {}
    for key, entry in state.items():
        if not torch.is_tensor(entry):
            if key.rsplit('.', 1)[-1] == 'num_batches_tracked':
                filled[key] = torch.zeros(tuple(entry), dtype=torch.long)
            else:
                filled[key] = value_for(key, entry, salt)
        elif torch.is_floating_point(entry):
            filled[key] = value_for(key, entry.shape, salt).to(entry.dtype)
        else:
            filled[key] = entry.detach().clone()
    return filled


def value_for(key: str, shape: Sequence[int], salt: str = '') -> Tensor:
    """One float32 tensor for a state-dict entry of this name and shape."""
    shape = tuple(int(side) for side in shape)
    z = _normal(zlib.crc32((salt + key).encode()), shape)
    leaf = key.rsplit('.', 1)[-1]
    if leaf == 'running_var':
        return 0.5 + z.abs()
    if leaf == 'running_mean' or leaf.endswith('bias'):
        return 0.1 * z
    if len(shape) <= 1:  # norm weights, layer scales, level weights, temperatures
        return 1.0 + 0.1 * z
    if leaf == 'weight' or leaf.endswith('_weight'):
        fan_in = int(np.prod(shape[1:]))
        return z * max(0.02, fan_in**-0.5)
    return 0.2 * z  # position tables, tokens


def make_input(shape: Sequence[int], seed: int, block: int = 8) -> Tensor:
    """Image-like input: white noise of half the strength on blocks of constant noise.

    Args:
        shape (Sequence[int]): Any; the last two dimensions are height and width.
        seed (int): Seed.
        block (int): Side of the blocks; 0, or fewer than three dimensions, gives white noise.
    """
    shape = tuple(int(side) for side in shape)
    white = _normal(seed * 2 + 1, shape)
    if len(shape) < 3 or not block:
        return white
    h, w = shape[-2:]
    low = _normal(seed * 2, (*shape[:-2], -(-h // block), -(-w // block)))
    low = low.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :h, :w]
    return (low + 0.5 * white).contiguous()


def digest(tensor: Tensor) -> dict:
    """Shape, sums and extremes in float64, for tensors too large to keep."""
    values = tensor.detach().double()
    return dict(
        shape=tuple(values.shape),
        sum=float(values.sum()),
        abs_sum=float(values.abs().sum()),
        sq_sum=float(values.square().sum()),
        min=float(values.min()),
        max=float(values.max()),
    )


def _normal(seed: int, shape: tuple[int, ...]) -> Tensor:
    values = np.random.RandomState(seed & 0xFFFFFFFF).standard_normal(int(np.prod(shape)))
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)
