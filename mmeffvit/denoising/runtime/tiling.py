"""Tiled inference for large images, windowed inference for long clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..padding import pad_to_multiples

Network = Callable[[Tensor], Tensor]


def run_tiled(network: Network, image: Tensor, tile: int, overlap: int, divisor: int = 1) -> Tensor:
    """Run a network on overlapping tiles and blend the results.

    Of an overlap the outer quarter on either side is discarded and the middle half is blended
    linearly (our choice), so the result equals that on the whole image if the network's receptive
    field reaches no further than a quarter of the overlap. Memory is that of the network on one
    tile, plus input and output. The image is padded here; the padding inside the network then has
    nothing to do.

    Args:
        network (Callable): Maps ``(..., h, w)`` to the same size.
        image (Tensor): ``(..., H, W)``.
        tile (int): Side of a tile, a multiple of ``divisor``.
        overlap (int): Least overlap of neighbouring tiles, a multiple of ``divisor``.
        divisor (int): Tiles start at multiples of it, so that windows and strides are placed as in
            the whole image; sides are padded to multiples by reflection.

    Returns:
        Tensor: ``(..., H, W)``. An image that fits in one tile goes through the network whole.

    Raises:
        ValueError: If the overlap is not below the tile, or either is no multiple of ``divisor``.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f'overlap={overlap} must be at least 0 and below tile={tile}.')
    if tile % divisor or overlap % divisor:
        raise ValueError(
            f'tile={tile} and overlap={overlap} must be multiples of {divisor}, the size divisor '
            'of the network.'
        )
    H, W = image.shape[-2:]
    if max(H, W) <= tile:
        return network(image)
    padded = pad_to_multiples(image, divisor)
    out = torch.zeros_like(padded)
    rows, columns = (_axis_tiles(side, tile, overlap, image) for side in padded.shape[-2:])
    for top, row_weight in rows:
        for left, column_weight in columns:
            place = (..., slice(top, top + len(row_weight)), slice(left, left + len(column_weight)))
            out[place] += network(padded[place]) * row_weight[:, None] * column_weight
    return out[..., :H, :W]


def _axis_tiles(side: int, tile: int, overlap: int, like: Tensor) -> list[tuple[int, Tensor]]:
    """Start and weights of the tiles along one side; the weights of a place sum to one."""
    if side <= tile:
        return [(0, like.new_ones(side))]
    starts = [*range(0, side - tile, tile - overlap), side - tile]
    quarter = overlap // 4
    ramp_length = max(1, overlap - 2 * quarter)
    ramp = (torch.arange(ramp_length, device=like.device, dtype=like.dtype) + 0.5) / ramp_length
    rise = F.pad(ramp, (quarter, 0))[:overlap]
    weights = []
    for start in starts:
        weight = like.new_ones(tile)
        if start > 0 and overlap:
            weight[: len(rise)] = rise
        if start < side - tile and overlap:
            weight[tile - len(rise) :] = rise.flip(0)
        weights.append(weight)
    total = like.new_zeros(side)
    for start, weight in zip(starts, weights):
        total[start : start + tile] += weight
    return [(start, weight / total[start : start + tile]) for start, weight in zip(starts, weights)]


def run_clip(network: Network, frames: Iterable[Tensor], num_frames: int) -> Iterator[Tensor]:
    """Run a clip network over a sequence of any length, holding two windows of frames at most.

    Windows do not overlap, except the last one: it is moved back to end on the last frame, and the
    frames that it shares with the window before are averaged. A shorter sequence is padded by
    reflection in time (our choices).

    Args:
        network (Callable): Maps ``(B, C, num_frames, H, W)`` to the same size.
        frames (Iterable[Tensor]): Frames ``(B, C, H, W)`` of one size.
        num_frames (int): Length of a window.

    Yields:
        Tensor: Frames ``(B, C, H, W)`` in order.
    """
    previous: tuple[list[Tensor], list[Tensor]] | None = None
    window: list[Tensor] = []
    for frame in frames:
        window.append(frame)
        if len(window) == num_frames:
            if previous is not None:
                yield from previous[1]
            previous = window, list(network(torch.stack(window, 2)).unbind(2))
            window = []
    if not window:
        yield from previous[1] if previous is not None else ()
        return
    rest = len(window)
    if previous is None:
        clip = torch.stack(window, 2)
        period = max(1, 2 * rest - 2)
        place = torch.arange(num_frames, device=clip.device) % period
        mirrored = clip.index_select(2, torch.minimum(place, (period - place).abs()))
        yield from network(mirrored).unbind(2)[:rest]
        return
    inputs, outputs = previous
    shared = num_frames - rest
    last = network(torch.stack(inputs[rest:] + window, 2)).unbind(2)
    yield from outputs[:rest]
    for earlier, later in zip(outputs[rest:], last[:shared]):
        yield (earlier + later) / 2
    yield from last[shared:]
