from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..ops.layout import Grid, same_sizes
from ..ops.resize import INTERPOLATIONS, interpolate_tokens, resample_linear
from ..registry import MODELS


def resize_position_embedding(
    embedding: Tensor, source: Grid, target: Grid, mode: str = 'bicubic', num_extra_tokens: int = 0
) -> Tensor:
    """Interpolate a learned position embedding to another grid, in float32.

    Args:
        embedding (Tensor): ``(1, E + H*W, C)`` with ``E`` extra tokens first.
        source (tuple[int, ...]): Its grid ``(H, W)``, or ``(T, H, W)``.
        target (tuple[int, ...]): The wanted grid.
        mode (str): One of :data:`~mmeffvit.ops.resize.INTERPOLATIONS`; linear over time.
        num_extra_tokens (int): ``E``; these rows are not changed.

    Returns:
        Tensor: ``(1, E + H'*W', C)``; the input itself where the grids agree.

    Raises:
        ValueError: If the table does not have ``E + H*W`` rows.
    """
    cells = math.prod(source)
    if embedding.shape[1] != num_extra_tokens + cells:
        raise ValueError(
            f'A position table of {embedding.shape[1]} rows does not fit {num_extra_tokens} extra '
            f'tokens and a grid of {"x".join(map(str, source))}; give the grid it was trained on.'
        )
    if same_sizes(source, target):
        return embedding
    extra, grid_part = embedding.split([num_extra_tokens, cells], dim=1)
    frames = grid_part.reshape(math.prod(source[:-2]), -1, embedding.shape[2])
    table = interpolate_tokens(frames, source[-2:], target[-2:], mode).flatten(0, 1).unsqueeze(0)
    table = resample_linear(table, (*source[:-2], *target[-2:]), target)
    return torch.cat([extra, table], dim=1) if num_extra_tokens else table


@MODELS.register_module()
class PositionEmbedding(nn.Module):
    """Learned absolute position embedding, interpolated to the grid of its input.

    Args:
        embed_dims (int): Width C of the tokens.
        grid (tuple[int, ...]): Grid ``(H, W)`` of the table, or ``(T, H, W)``.
        mode (str): Interpolation to other grids, one of
            :data:`~mmeffvit.ops.resize.INTERPOLATIONS`.
        num_extra_tokens (int): Tokens that precede the grid, such as a class token.

    Raises:
        ValueError: If ``mode`` is not one of these.
    """

    def __init__(
        self, embed_dims: int, grid: Grid, mode: str = 'bicubic', num_extra_tokens: int = 0
    ) -> None:
        super().__init__()
        if mode not in INTERPOLATIONS:
            raise ValueError(f'mode={mode!r} must be one of {INTERPOLATIONS}.')
        self.grid = grid
        self.mode = mode
        self.num_extra_tokens = num_extra_tokens
        rows = num_extra_tokens + math.prod(grid)
        self.weight = nn.Parameter(torch.zeros(1, rows, embed_dims))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Add the embedding to tokens ``(B, E + N, C)`` on a grid of ``N`` cells."""
        return x + resize_position_embedding(
            self.weight, self.grid, grid, self.mode, self.num_extra_tokens
        )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Interpolate a loaded embedding of another square grid, such as one trained at 224 px."""
        stored = state_dict.get(f'{prefix}weight')
        if stored is not None and len(self.grid) == 2 and stored.shape[1] != self.weight.shape[1]:
            side = math.isqrt(max(0, stored.shape[1] - self.num_extra_tokens))
            if side * side + self.num_extra_tokens == stored.shape[1]:
                state_dict[f'{prefix}weight'] = resize_position_embedding(
                    stored, (side, side), self.grid, self.mode, self.num_extra_tokens
                )
        super()._load_from_state_dict(state_dict, prefix, *args)
