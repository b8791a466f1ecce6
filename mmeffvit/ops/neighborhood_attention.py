"""Neighborhood attention (Hassani et al., "Neighborhood Attention Transformer", CVPR 2023).

Every query attends to a window of ``k x k`` pixels around it. At the borders the window is shifted
inside the map, so that it always holds ``k x k`` pixels. With a dilation ``d`` (Hassani and Shi,
"Dilated Neighborhood Attention Transformer", 2022) the map falls into ``d x d`` interleaved maps
whose pixels do not see those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .dispatch import Op
from .numerics import accurate, without_autocast
from .operators import register

_softmax_backward = torch._softmax_backward_data  # pyright: ignore[reportPrivateImportUsage]

#: Side of the square tiles of queries that share their keys: large enough for matrix products, and
#: small enough that few of the tile's keys are outside the window of a query.
TILE = 4
#: Bytes of logits that one step keeps in cache; other devices prefer few, large steps.
CHUNK_BYTES_CPU = 1 << 20
CHUNK_BYTES = 256 << 20


def neighborhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor | None = None,
    *,
    kernel_size: int,
    dilation: int = 1,
    backend: str | None = None,
) -> Tensor:
    """Attend to the window around every pixel, shifted inside the map at its borders.

    A side of the map that is shorter than the window is attended in full. Logits, softmax and sums
    run in float32 (float64 for float64 inputs), also under autocast.

    Args:
        q (Tensor): Scaled queries ``(B, H, W, heads, D)``.
        k (Tensor): Keys of the same shape.
        v (Tensor): Values of the same shape.
        rpb (Tensor, optional): Relative position bias ``(heads, 2k - 1, 2k - 1)``: rows and columns
            from key to query, in steps of the dilation, plus ``k - 1``.
        kernel_size (int): Side ``k`` of the window, odd.
        dilation (int): Distance ``d`` of neighbouring pixels of a window.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B, H, W, heads, D)`` in the dtype of ``q``.

    Raises:
        ValueError: If ``kernel_size`` is even, ``dilation`` is not positive, or ``rpb`` does not
            fit.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'kernel_size={kernel_size} must be odd; an even window has no centre.')
    if dilation < 1:
        raise ValueError(f'dilation={dilation} must be at least 1.')
    table = (q.shape[3], 2 * kernel_size - 1, 2 * kernel_size - 1)
    if rpb is not None and rpb.shape != table:
        raise ValueError(f'rpb has shape {tuple(rpb.shape)}; it must be {table}.')
    with without_autocast(q):
        rpb = q.new_zeros(table, dtype=accurate(q).dtype) if rpb is None else accurate(rpb)
        return _neighborhood(q, k, v, rpb, kernel_size, dilation, backend=backend).to(q.dtype)


@dataclass(frozen=True)
class Axis:
    """Windows along one side of the map.

    Attributes:
        positions (Tensor): ``(L, k)``: the neighbours of each pixel.
        offsets (Tensor): ``(L, k)``: their entries of the position bias.
        exists (Tensor): Boolean ``(L, k)``: False beyond a side shorter than the window.
    """

    positions: Tensor
    offsets: Tensor
    exists: Tensor


def window_axis(length: int, kernel_size: int, dilation: int, device: torch.device) -> Axis:
    """Neighbours along a side of ``length`` pixels."""
    pixels = torch.arange(length, device=device)
    phase, place = pixels % dilation, pixels // dilation
    count = (length - 1 - phase) // dilation + 1
    start = torch.minimum(place - kernel_size // 2, count - kernel_size).clamp(min=0)
    neighbours = start[:, None] + torch.arange(kernel_size, device=device)
    exists = neighbours < count[:, None]
    positions = torch.where(exists, neighbours * dilation + phase[:, None], pixels[:, None])
    offsets = torch.where(exists, neighbours - place[:, None] + kernel_size - 1, 0)
    return Axis(positions, offsets, exists)


def _reference(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int
) -> Tensor:
    """Gather the ``k * k`` keys and values of every query."""
    q, k, v = (accurate(x) for x in (q, k, v))
    rows, columns = (window_axis(side, kernel_size, dilation, q.device) for side in q.shape[1:3])
    keys, values = (x[:, rows.positions][:, :, :, columns.positions] for x in (k, v))
    bias = rpb[:, rows.offsets][..., columns.offsets]
    exists = rows.exists[:, :, None, None] & columns.exists
    logits = torch.einsum('byxhd,byixjhd->bhyixj', q, keys) + bias
    logits = logits.masked_fill(~exists, float('-inf')).transpose(3, 4)
    weights = logits.flatten(-2).softmax(-1).view_as(logits)
    return torch.einsum('bhyxij,byixjhd->byxhd', weights, values)


def _fast(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int) -> Tensor:
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, rpb)):
        return _NeighborhoodAttention.apply(q, k, v, rpb, kernel_size, dilation)
    return _forward(q, k, v, rpb, kernel_size, dilation)


class _NeighborhoodAttention(Function):
    @staticmethod
    def forward(ctx, q, k, v, rpb, kernel_size, dilation):
        ctx.save_for_backward(q, k, v, rpb)
        ctx.window = kernel_size, dilation
        return _forward(q, k, v, rpb, kernel_size, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *_backward(grad, *ctx.saved_tensors, *ctx.window), None, None


def _forward(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int
) -> Tensor:
    """Attend in tiles: each is multiplied with all keys that any of its queries sees.

    Beside inputs and output it needs the logits of one chunk of tiles.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        return [_attend(q, k, v, rpb, kernel_size)]

    return _by_phase(attend, (q, k, v), dilation)[0]


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and bias; the weights are computed again."""
    grad_rpb = torch.zeros_like(rpb)

    def differentiate(grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        return _differentiate_maps(grad, q, k, v, rpb, kernel_size, grad_rpb)

    with without_autocast(q):
        grads = _by_phase(differentiate, (grad, q, k, v), dilation)
    grad_q, grad_k, grad_v = (found.to(x.dtype) for found, x in zip(grads, (q, k, v)))
    return grad_q, grad_k, grad_v, grad_rpb


def _by_phase(
    function: Callable[..., list[Tensor]], maps: Sequence[Tensor], dilation: int
) -> list[Tensor]:
    """Apply a function of maps to each of the maps that a dilation interleaves.

    Args:
        function (Callable): Maps ``(B', H', W', heads, D)`` to a list of such, contiguous.
        maps (Sequence[Tensor]): ``(B, H, W, heads, D)``.
        dilation (int): ``d``; pixels are sorted by their remainders first.
    """
    if dilation == 1:
        return function(*maps)
    sides = maps[0].shape[1:3]
    orders = [
        torch.argsort(torch.arange(n, device=maps[0].device) % dilation, stable=True) for n in sides
    ]
    maps = [x.index_select(1, orders[0]).index_select(2, orders[1]) for x in maps]
    bands = []
    for rows, count in _phases(sides[0], dilation):
        blocks = []
        for columns, width in _phases(sides[1], dilation):
            parts = [
                x[:, rows, columns]
                .unflatten(2, (-1, width))
                .unflatten(1, (-1, count))
                .transpose(2, 3)
                for x in maps
            ]
            results = function(*(x.flatten(0, 2) for x in parts))
            results = [x.view(parts[0].shape).transpose(2, 3) for x in results]
            blocks.append([x.flatten(3, 4).flatten(1, 2) for x in results])
        bands.append([torch.cat(same, 2) for same in zip(*blocks)])
    inverse = [order.argsort() for order in orders]
    joined = [torch.cat(same, 1) for same in zip(*bands)]
    return [x.index_select(1, inverse[0]).index_select(2, inverse[1]) for x in joined]


def _phases(side: int, dilation: int) -> list[tuple[slice, int]]:
    """Equally long phases of a side sorted by phase: where they are, and the length of each."""
    count, longer = divmod(side, dilation)
    split = longer * (count + 1)
    phases = [(slice(0, split), count + 1), (slice(split, side), count)]
    return [(place, length) for place, length in phases if place.stop > place.start]


@dataclass(frozen=True)
class TiledAxis:
    """One side of a map in ``n`` tiles of ``t`` queries, each with the ``r`` keys that they see.

    Attributes:
        queries (Tensor): ``(n, t)``: pixels; the last tile repeats the last pixel.
        keys (Tensor): ``(n, r)``: pixels.
        offsets (Tensor): ``(n, t, r)``: entries of the position bias.
        hidden (Tensor): Boolean ``(n, t, r)``: True where a key is outside a query's window.
        runs (list[slice]): Consecutive tiles with the same offsets and hidden keys.
    """

    queries: Tensor
    keys: Tensor
    offsets: Tensor
    hidden: Tensor
    runs: list[slice]


def tile_axis(length: int, kernel_size: int, device: torch.device) -> TiledAxis:
    """Cut a side of ``length`` pixels into tiles."""
    window, reach = min(kernel_size, length), kernel_size // 2
    size = min(TILE, length)
    span = min(length, size + kernel_size - 1)
    firsts = torch.arange(0, length, size)
    queries = (firsts[:, None] + torch.arange(size)).clamp(max=length - 1)
    keys = (firsts - reach).clamp(0, length - span)[:, None] + torch.arange(span)
    start = (queries - reach).clamp(0, length - window)[..., None]
    hidden = (keys[:, None] < start) | (keys[:, None] >= start + window)
    offsets = (keys[:, None] - queries[..., None] + kernel_size - 1).clamp(0, 2 * kernel_size - 2)
    patterns = torch.where(hidden, -1, offsets).flatten(1)
    changes = [0, *((patterns[1:] != patterns[:-1]).any(1).nonzero()[:, 0] + 1).tolist()]
    runs = [slice(a, b) for a, b in zip(changes, [*changes[1:], len(patterns)])]
    queries, keys, offsets, hidden = (x.to(device) for x in (queries, keys, offsets, hidden))
    return TiledAxis(queries, keys, offsets, hidden, runs)


class _Tiling:
    """The tiles of a map, row of tiles after row, and the position biases of each.

    Args:
        q (Tensor): Queries ``(B, H, W, heads, D)``.
        rpb (Tensor): ``(heads, 2k - 1, 2k - 1)``.
        kernel_size (int): Side of the window.
    """

    def __init__(self, q: Tensor, rpb: Tensor, kernel_size: int) -> None:
        self.sides, self.heads = q.shape[1:3], q.shape[3]
        self.rpb = rpb
        self.rows, self.columns = (tile_axis(n, kernel_size, q.device) for n in self.sides)
        self.tile = (self.rows.queries.shape[1], self.columns.queries.shape[1])
        self.span = (self.rows.keys.shape[1], self.columns.keys.shape[1])
        logits = self.heads * prod(self.tile) * prod(self.span) * rpb.element_size()
        budget = CHUNK_BYTES_CPU if q.device.type == 'cpu' else CHUNK_BYTES
        tiles = max(1, budget // logits)
        count = len(self.columns.queries)
        self.images = max(1, tiles // count)
        self.width = min(count, tiles)

    def chunks(self, batch: int) -> Iterator[tuple[slice, int, slice]]:
        """Images, row of tiles, and tiles of that row that are attended in one step."""
        for first in range(0, batch, self.images):
            for row in range(len(self.rows.queries)):
                for left in range(0, len(self.columns.queries), self.width):
                    yield slice(first, first + self.images), row, slice(left, left + self.width)

    def runs(self, row: int, tiles: slice) -> Iterator[tuple[slice, tuple[int, int]]]:
        """Tiles of a chunk that have one bias, and the first tile of the map that has it."""
        first_row = next(run.start for run in self.rows.runs if run.start <= row < run.stop)
        for run in self.columns.runs:
            part = slice(max(run.start, tiles.start), min(run.stop, tiles.stop))
            if part.start < part.stop:
                yield (
                    slice(part.start - tiles.start, part.stop - tiles.start),
                    (first_row, run.start),
                )

    def bias(self, place: tuple[int, int]) -> Tensor:
        """Position bias ``(heads, queries, keys)`` of a tile, -inf outside the windows."""
        row, column = place
        table = self.rpb[:, self.rows.offsets[row]][..., self.columns.offsets[column]]
        hidden = self.rows.hidden[row][:, :, None, None] | self.columns.hidden[column]
        table = table.masked_fill(hidden, float('-inf'))
        return table.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def add_to_table(self, grad: Tensor, place: tuple[int, int], table_grad: Tensor) -> None:
        """Add the gradient ``(heads, queries, keys)`` of a tile's bias to that of the table."""
        row, column = place
        split = grad.unflatten(2, self.span).unflatten(1, self.tile).transpose(2, 3)
        side = table_grad.shape[-1]
        rows, columns = self.rows.offsets[row].flatten(), self.columns.offsets[column].flatten()
        by_row = split.new_zeros(self.heads, side, *self.columns.offsets[column].shape)
        by_row.index_add_(1, rows, split.flatten(1, 2))
        table_grad.index_add_(2, columns, by_row.flatten(2))

    def take_queries(self, x: Tensor, images: slice, row: int, tiles: slice) -> Tensor:
        """Tiles ``(b, tiles, heads, queries, D)`` of ``(B, H, W, heads, D)``."""
        return _take(x[images], self.rows.queries[row], self.columns.queries[tiles])

    def clear_repeats(self, x: Tensor, row: int, tiles: slice) -> Tensor:
        """Set tiles ``(b, tiles, heads, queries, D)`` to zero of repeated pixels, in place."""
        split = x.unflatten(3, self.tile)
        split[..., self.sides[0] - row * self.tile[0] :, :, :] = 0
        if tiles.start + x.shape[1] == len(self.columns.queries):
            split[:, -1, :, :, self.sides[1] - (tiles.start + x.shape[1] - 1) * self.tile[1] :] = 0
        return x

    def take_keys(self, x: Tensor, images: slice, row: int, tiles: slice) -> Tensor:
        """What the tiles see, ``(b, tiles, heads, keys, D)``, of ``(B, H, W, heads, D)``."""
        return _take(x[images], self.rows.keys[row], self.columns.keys[tiles])

    def put_queries(self, out: Tensor, x: Tensor, images: slice, row: int, tiles: slice) -> None:
        """Write tiles ``(b, tiles, heads, queries, D)`` into ``(B, H, W, heads, D)``."""
        height, width = self.tile
        band = _untile(x, self.tile).flatten(2, 3)
        place = out[images, row * height : (row + 1) * height]
        place = place[:, :, tiles.start * width : (tiles.start + x.shape[1]) * width]
        place.copy_(band[:, : place.shape[1], : place.shape[2]])

    def add_keys(self, out: Tensor, x: Tensor, images: slice, row: int, tiles: slice) -> None:
        """Add ``(b, tiles, heads, keys, D)`` to what the tiles see of ``(B, H, W, heads, D)``."""
        first = int(self.rows.keys[row, 0])
        band = out[images, first : first + self.span[0]]
        band.index_add_(2, self.columns.keys[tiles].flatten(), _untile(x, self.span).flatten(2, 3))


def _take(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Blocks ``(b, n, heads, t * s, D)`` of ``t`` rows and ``(n, s)`` columns of a map."""
    blocks = x.index_select(1, rows).index_select(2, columns.flatten()).unflatten(2, columns.shape)
    blocks = accurate(blocks).permute(0, 2, 4, 1, 3, 5)
    return blocks.flatten(3, 4)


def _untile(x: Tensor, sides: tuple[int, int]) -> Tensor:
    """Blocks ``(b, n, heads, t * s, D)`` as ``(b, t, n, s, heads, D)``."""
    return x.unflatten(3, sides).permute(0, 3, 1, 4, 2, 5)


def _weights(tiling: _Tiling, q: Tensor, k: Tensor, row: int, tiles: slice, biases: dict) -> Tensor:
    """Attention weights ``(b, tiles, heads, queries, keys)`` of some tiles."""
    logits = q @ k.transpose(-2, -1)
    for part, place in tiling.runs(row, tiles):
        if place not in biases:
            biases[place] = tiling.bias(place)
        logits[:, part] += biases[place]
    return torch.softmax(logits, -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int) -> Tensor:
    """Attend inside maps, without dilation."""
    tiling, biases = _Tiling(q, rpb, kernel_size), {}
    out = torch.empty_like(q, dtype=accurate(q).dtype, memory_format=torch.contiguous_format)
    for chunk in tiling.chunks(len(q)):
        queries, keys = tiling.take_queries(q, *chunk), tiling.take_keys(k, *chunk)
        weights = _weights(tiling, queries, keys, *chunk[1:], biases)
        tiling.put_queries(out, weights @ tiling.take_keys(v, *chunk), *chunk)
    return out


def _differentiate_maps(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor,
    kernel_size: int,
    grad_rpb: Tensor,
) -> list[Tensor]:
    """Gradients of :func:`_attend`; that of the bias is added to ``grad_rpb``."""
    tiling, biases = _Tiling(q, rpb, kernel_size), {}
    grad_q, grad_k, grad_v = (
        torch.zeros(x.shape, dtype=rpb.dtype, device=x.device) for x in (q, k, v)
    )
    bias_grads: dict[tuple[int, int], Tensor] = {}
    for chunk in tiling.chunks(len(q)):
        queries = tiling.take_queries(q, *chunk)
        keys, values = tiling.take_keys(k, *chunk), tiling.take_keys(v, *chunk)
        weights = _weights(tiling, queries, keys, *chunk[1:], biases)
        out_grad = tiling.clear_repeats(tiling.take_queries(grad, *chunk), *chunk[1:])
        tiling.add_keys(grad_v, weights.transpose(-2, -1) @ out_grad, *chunk)
        logits_grad = out_grad @ values.transpose(-2, -1)
        logits_grad = _softmax_backward(logits_grad, weights, -1, weights.dtype)
        for part, place in tiling.runs(*chunk[1:]):
            summed = logits_grad[:, part].sum((0, 1))
            bias_grads[place] = bias_grads[place] + summed if place in bias_grads else summed
        tiling.put_queries(grad_q, logits_grad @ keys, *chunk)
        tiling.add_keys(grad_k, logits_grad.transpose(-2, -1) @ queries, *chunk)
    for place, bias_grad in bias_grads.items():
        tiling.add_to_table(bias_grad, place, grad_rpb)
    return [grad_q, grad_k, grad_v]


def _compiled(
    backend: str, q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int
) -> Tensor:
    return torch.ops.mmeffvit.neighborhood_attention(q, k, v, rpb, kernel_size, dilation)


def _fake(q, k, v, rpb, kernel_size, dilation):
    return torch.empty(q.shape, dtype=accurate(q).dtype, device=q.device)


def _fake_backward(grad, q, k, v, rpb, kernel_size, dilation):
    grads = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)]
    return *grads, torch.empty_like(rpb)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.window = inputs[4:]


def _differentiate(ctx, grad):
    grads = torch.ops.mmeffvit.neighborhood_attention_backward(
        grad, *ctx.saved_tensors, *ctx.window
    )
    return *grads, None, None


def _flops(q, k, v, rpb, kernel_size, dilation, *, out_shape=None, **_) -> int:
    B, H, W, heads, D = q
    return 2 * 2 * B * H * W * heads * D * kernel_size**2


register(
    'neighborhood_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor rpb, '
    'int kernel_size, int dilation) -> (Tensor, Tensor, Tensor, Tensor)',
    _backward,
    _fake_backward,
    flops=lambda grad, *args, **kwargs: 2 * _flops(*args),
)
register(
    'neighborhood_attention(Tensor q, Tensor k, Tensor v, Tensor rpb, int kernel_size, '
    'int dilation) -> Tensor',
    _forward,
    _fake,
    flops=_flops,
    backward=_differentiate,
    setup_context=_setup_context,
)
_neighborhood = Op('neighborhood_attention', reference=_reference, fast=_fast, compiled=_compiled)
