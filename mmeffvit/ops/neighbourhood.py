"""Maps cut into tiles and shifted by the offsets of a window, for attention to a neighbourhood.

Maps are ``(B, H, W, heads, D)``. An offset counts the positions of a ``k x k`` window in row-major
order; offset ``s`` of pixel ``(y, x)`` is ``(y + s // k - k // 2, x + s % k - k // 2)``, which in a
map padded by ``k // 2`` is ``(y + s // k, x + s % k)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING_MODES = ('zeros', 'reflect', 'replicate', 'circular')
#: Bytes of queries in a tile: a core's cache on CPUs; other devices prefer few, large steps.
TILE_BYTES_CPU = 1 << 20
TILE_BYTES = 64 << 20

#: Slices over the images of a batch and over the rows of an image.
Tile = tuple[slice, slice]


def tiles(q: Tensor) -> Iterator[Tile]:
    """Cut ``(B, H, W, heads, D)`` into tiles of several whole images or of some rows of one."""
    B, H = q.shape[:2]
    budget = TILE_BYTES_CPU if q.device.type == 'cpu' else TILE_BYTES
    image_bytes = max(1, q[:1].numel() * q.element_size())
    images = max(1, budget // image_bytes)
    rows = H if images > 1 else min(H, max(1, budget * H // image_bytes))
    for first in range(0, B, images):
        for top in range(0, H, rows):
            yield slice(first, first + images), slice(top, min(H, top + rows))


def shifted(padded: Tensor, tile: Tile, offset: int, kernel_size: int) -> Tensor:
    """View what the pixels of a tile find at one offset of their window.

    Args:
        padded (Tensor): ``(B, H + k - 1, W + k - 1, heads, D)``.
        tile (Tile): A tile of the map without padding, ``h`` rows of ``b`` images.
        offset (int): Row-major position in the window.
        kernel_size (int): Side ``k`` of the window.

    Returns:
        Tensor: ``(b, h, W, heads, D)``.
    """
    down, right = divmod(offset, kernel_size)
    images, rows = tile
    width = padded.shape[2] - kernel_size + 1
    return padded[images, rows.start + down : rows.stop + down, right : right + width]


def channels_first(x: Tensor) -> Tensor:
    """View a tile ``(b, h, w, heads, D)`` as ``(heads, D, pixels)``."""
    return x.flatten(0, 2).permute(1, 2, 0)


def pixels_first(x: Tensor) -> Tensor:
    """View a tile ``(b, h, w, heads, D)`` as ``(heads, pixels, D)``."""
    return x.flatten(0, 2).transpose(0, 1)


def outside_map(grid: Sequence[int], kernel_size: int, device: torch.device) -> Tensor:
    """Boolean ``(k * k, H, W)``: True where an offset of a pixel's window is outside the map."""
    reach = torch.arange(kernel_size, device=device) - kernel_size // 2
    rows, columns = (reach[:, None] + torch.arange(side, device=device) for side in grid)
    rows, columns = (rows < 0) | (rows >= grid[0]), (columns < 0) | (columns >= grid[1])
    return (rows[:, None, :, None] | columns[None, :, None, :]).flatten(0, 1)


def pad_map(x: Tensor, margin: int, mode: str = 'zeros') -> Tensor:
    """Pad a map on all four sides, also by more than its own size.

    Args:
        x (Tensor): ``(B, H, W, heads, D)``.
        margin (int): Rows and columns added to each side.
        mode (str): One of :data:`PADDING_MODES`, with the meaning that ``F.pad`` gives them.

    Returns:
        Tensor: ``(B, H + 2 * margin, W + 2 * margin, heads, D)``, contiguous.
    """
    if mode == 'zeros':
        return F.pad(x, (0, 0, 0, 0, *[margin] * 4)).contiguous()
    for dim in (1, 2):
        side = x.shape[dim]
        index = torch.arange(-margin, side + margin, device=x.device)
        if mode == 'circular':
            index = index % side
        elif mode == 'replicate':
            index = index.clamp(0, side - 1)
        else:
            period = max(1, 2 * (side - 1))
            index = (index % period).clamp(max=side - 1) - (index % period - side + 1).clamp(min=0)
        x = x.index_select(dim, index)
    return x
