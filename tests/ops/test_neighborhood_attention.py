"""Neighborhood attention: the tiled path against a loop over pixels with the authors' window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmeffvit.ops import neighborhood_attention

SHAPES = [
    ((14, 14), 7, 1),
    ((19, 23), 7, 1),
    ((5, 9), 5, 1),
    ((16, 16), 3, 3),
    ((20, 17), 5, 2),
    ((31, 9), 3, 3),
]
SMALL = [((5, 9), 7, 1), ((1, 1), 3, 1), ((3, 30), 5, 4), ((2, 3), 3, 5)]


def window_start(place: int, side: int, size: int, dilation: int) -> int:
    """First pixel of a window, by the authors' case distinction."""
    reach = size // 2 * dilation
    if place - reach < 0:
        return place % dilation
    if place + reach >= side:
        whole = side // dilation * dilation
        phase, rest = place % dilation, side - side // dilation * dilation
        if phase < rest:
            return side - rest + phase - 2 * reach
        return whole + phase - size * dilation
    return place - reach


def per_pixel(q, k, v, rpb, size, dilation) -> Tensor:
    _, H, W, _, _ = q.shape
    out = torch.zeros_like(q)
    steps = torch.arange(size)
    for y in range(H):
        for x in range(W):
            rows = window_start(y, H, size, dilation) + dilation * steps
            columns = window_start(x, W, size, dilation) + dilation * steps
            keys, values = (t[:, rows][:, :, columns].flatten(1, 2) for t in (k, v))
            bias = rpb[:, (rows - y) // dilation + size - 1]
            bias = bias[..., (columns - x) // dilation + size - 1].flatten(1)
            logits = torch.einsum('bhd,bshd->bhs', q[:, y, x], keys) + bias
            out[:, y, x] = torch.einsum('bhs,bshd->bhd', logits.softmax(-1), values)
    return out


def make(grid, size, heads=2, D=4, dtype=torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = [(2, *grid, heads, D)] * 3 + [(heads, 2 * size - 1, 2 * size - 1)]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize('backend', ['reference', 'torch'])
@pytest.mark.parametrize(('grid', 'size', 'dilation'), SHAPES)
def test_equals_definition(backend, grid, size, dilation):
    tensors = make(grid, size)
    out = neighborhood_attention(*tensors, kernel_size=size, dilation=dilation, backend=backend)
    torch.testing.assert_close(out, per_pixel(*tensors, size, dilation))


@pytest.mark.parametrize(('grid', 'size', 'dilation'), SHAPES + SMALL)
def test_gradients_equal_the_references(grid, size, dilation):
    tensors = [x.requires_grad_() for x in make(grid, size)]
    found = []
    for backend in ('reference', 'torch'):
        out = neighborhood_attention(*tensors, kernel_size=size, dilation=dilation, backend=backend)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        found.append([out, *torch.autograd.grad(out, tensors, weight)])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs)


def test_gradcheck():
    tensors = [x.requires_grad_() for x in make((6, 5), 3, heads=1, D=2)]
    torch.autograd.gradcheck(
        lambda *t: neighborhood_attention(*t, kernel_size=3, backend='torch'), tensors
    )


def test_a_side_shorter_than_the_window_is_attended_in_full():
    q, k, v, _ = make((3, 4), 7)
    out = neighborhood_attention(q, k, v, kernel_size=7)
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))
    full = (q @ k.transpose(-2, -1)).softmax(-1) @ v
    torch.testing.assert_close(out.flatten(1, 2).transpose(1, 2), full)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(dtype):
    tensors = make((9, 11), 3, dtype=dtype)
    out = neighborhood_attention(*tensors, kernel_size=3)
    exact = neighborhood_attention(*(x.double() for x in tensors), kernel_size=3)
    assert out.dtype == dtype
    torch.testing.assert_close(out, exact.to(dtype))


def test_views_are_taken_as_they_are():
    q, k, v, rpb = make((8, 10), 5)
    packed = torch.stack([q, k, v], 3)
    out = neighborhood_attention(*packed.unbind(3), rpb, kernel_size=5)
    assert torch.equal(out, neighborhood_attention(q, k, v, rpb, kernel_size=5))


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        (dict(kernel_size=4), 'kernel_size=4'),
        (dict(kernel_size=3, dilation=0), 'dilation=0'),
        (dict(kernel_size=5), 'rpb'),
    ],
)
def test_bad_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        neighborhood_attention(*make((6, 6), 3), **options)
