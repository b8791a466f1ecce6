"""Arithmetic on the numbers of a quad tree's nodes."""

from __future__ import annotations

import torch
from torch import Tensor


def flat_nodes(index: Tensor, num_parents: int) -> Tensor:
    """Nodes of every head numbered through: rows of a ``(G * num_parents, 4D)`` table."""
    G, _, K = index.shape
    heads = torch.arange(G, device=index.device).view(G, 1, 1) * num_parents
    return (index + heads).view(-1, K)


def kept_nodes(index: Tensor, location: Tensor) -> Tensor:
    """Map places in the candidate list ``(G * P, 4, k)`` to nodes ``(G, 4P, k)``."""
    G, P, K = index.shape
    parents = index.reshape(G * P, K).gather(1, (location >> 2).flatten(1)).view_as(location)
    return (4 * parents + (location & 3)).view(G, 4 * P, location.shape[-1])
