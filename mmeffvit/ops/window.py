"""Square windows of a token grid (Liu et al., "Swin Transformer", ICCV 2021, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from .layout import Grid, same_sizes


def partition_windows(tokens: Tensor, grid: Grid, window_size: int) -> Tensor:
    """Cut a token grid into windows.

    Args:
        tokens (Tensor): ``(B, H*W, C)`` in row-major order.
        grid (tuple[int, int]): ``(H, W)``, multiples of ``window_size``.
        window_size (int): Side of a window.

    Returns:
        Tensor: ``(B, windows, window_size ** 2, C)``, windows and their tokens in row-major order.
    """
    B, _, C = tokens.shape
    rows, columns = grid[0] // window_size, grid[1] // window_size
    split = tokens.reshape(B, rows, window_size, columns, window_size, C)
    return split.transpose(2, 3).reshape(B, rows * columns, window_size**2, C)


def merge_windows(windows: Tensor, grid: Grid, window_size: int) -> Tensor:
    """Inverse of :func:`partition_windows`: ``(B, windows, window_size ** 2, C)`` to tokens."""
    B, _, _, C = windows.shape
    rows, columns = grid[0] // window_size, grid[1] // window_size
    split = windows.reshape(B, rows, columns, window_size, window_size, C)
    return split.transpose(2, 3).reshape(B, grid[0] * grid[1], C)


def roll_tokens(tokens: Tensor, grid: Grid, shifts: tuple[int, int]) -> Tensor:
    """Shift a token grid cyclically up and left by ``shifts`` rows and columns."""
    if same_sizes(shifts, (0, 0)):
        return tokens
    rolled = tokens.unflatten(1, grid)
    if torch.compiler.is_compiling():  # exporters know no roll by an open number
        for axis, (side, shift) in enumerate(zip(grid, shifts), start=1):
            place = torch.arange(side, device=tokens.device) + shift
            wrapped = (place >= side).long() - (place < 0).long()
            rolled = rolled.index_select(axis, place - side * wrapped)
    else:
        rolled = rolled.roll((-shifts[0], -shifts[1]), dims=(1, 2))
    return rolled.flatten(1, 2)


def shifted_window_mask(
    grid: Grid, window_size: int, shifts: tuple[int, int], device: torch.device | None = None
) -> Tensor:
    """Mask of shifted windows: which tokens of a window were neighbours before the shift.

    Args:
        grid (tuple[int, int]): ``(H, W)``, multiples of ``window_size``.
        window_size (int): Side of a window.
        shifts (tuple[int, int]): Rows and columns that the grid was rolled by.
        device (torch.device, optional): Where to make the mask.

    Returns:
        Tensor: Boolean ``(windows, window_size ** 2, window_size ** 2)``, True where a query may
        see a key.
    """
    wrapped = [
        torch.arange(side, device=device) >= side - shift for side, shift in zip(grid, shifts)
    ]
    region = 2 * wrapped[0][:, None] + 1 * wrapped[1]
    region = partition_windows(region.view(1, -1, 1), grid, window_size)[0]
    return region == region.transpose(1, 2)


def relative_position_index(window_size: int) -> Tensor:
    """Index into the ``(2 * window_size - 1) ** 2`` bias table of every query and key of a window.

    Returns:
        Tensor: Integer ``(window_size ** 2, window_size ** 2)``, query first.
    """
    place = torch.arange(window_size)
    offset = place[:, None] - place + window_size - 1
    rows, columns = offset[:, None, :, None], offset[None, :, None, :]
    return (rows * (2 * window_size - 1) + columns).reshape(window_size**2, window_size**2)
