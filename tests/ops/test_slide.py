"""Slide attention: the fast path against the convolution form and a loop over pixels."""

from __future__ import annotations

from math import isqrt

import pytest
import torch
from torch import Tensor

from mmeffvit.ops import slide_attention
from mmeffvit.ops.slide import cpu


def per_pixel(q, k, v, weight, bias, rpb, padding=None, mask_borders=False) -> Tensor:
    """The definition, one pixel, head and tap at a time; ``padding(y, x)`` names the source."""
    H, W = q.shape[1:3]
    size = isqrt(weight.shape[1])
    reach = range(-(size // 2), size // 2 + 1)
    window = [(dy, dx) for dy in reach for dx in reach]
    out = torch.zeros_like(q)

    def pixel(x, y, column):
        if padding is not None:
            y, column = padding(y, H), padding(column, W)
        inside = 0 <= y < H and 0 <= column < W
        return x[:, y, column] if inside else torch.zeros_like(x[:, 0, 0])

    for y in range(H):
        for x in range(W):
            seen_k = torch.stack([pixel(k, y + dy, x + dx) for dy, dx in window], -1)
            seen_v = torch.stack([pixel(v, y + dy, x + dx) for dy, dx in window], -1)
            key = torch.einsum('dts,bhds->bhdt', weight, seen_k) + bias + rpb[:, None]
            value = torch.einsum('dts,bhds->bhdt', weight, seen_v) + bias
            logits = (q[:, y, x].unsqueeze(-1) * key).sum(2)
            if mask_borders:
                hidden = [not (0 <= y + dy < H and 0 <= x + dx < W) for dy, dx in window]
                logits = logits.masked_fill(torch.tensor(hidden), float('-inf'))
            out[:, y, x] = (value * logits.softmax(-1).unsqueeze(2)).sum(-1)
    return out


def make(grid, heads=2, D=4, size=3, batch=2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = [(batch, *grid, heads, D)] * 3 + [
        (D, size**2, size**2),
        (D, size**2),
        (heads, size**2),
    ]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize('backend', ['reference', 'torch'])
@pytest.mark.parametrize(
    ('grid', 'size'), [((5, 4), 3), ((1, 1), 3), ((2, 1), 5), ((3, 6), 1), ((3, 2), 7)]
)
@pytest.mark.parametrize('mask_borders', [False, True])
def test_equals_definition(backend, grid, size, mask_borders):
    tensors = make(grid, size=size)
    out = slide_attention(*tensors, mask_borders=mask_borders, backend=backend)
    expected = per_pixel(*tensors, mask_borders=mask_borders)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def _reflect(i: int, side: int) -> int:
    i = i % max(1, 2 * (side - 1))
    return min(i, 2 * (side - 1) - i) if side > 1 else 0


@pytest.mark.parametrize(
    ('mode', 'padding'),
    [
        ('reflect', _reflect),
        ('replicate', lambda i, side: min(max(i, 0), side - 1)),
        ('circular', lambda i, side: i % side),
    ],
)
@pytest.mark.parametrize('grid', [(4, 3), (1, 1), (2, 1)])
def test_padding_modes_on_any_map(mode, padding, grid):
    tensors = make(grid, size=5)
    out = slide_attention(*tensors, padding_mode=mode)
    torch.testing.assert_close(out, per_pixel(*tensors, padding), rtol=0, atol=1e-12)


@pytest.mark.parametrize('tile_bytes', [1 << 20, 2000, 1])
def test_tiles_do_not_change_anything(tile_bytes, monkeypatch):
    monkeypatch.setattr(cpu, 'TILE_BYTES_CPU', tile_bytes)
    tensors = [x.requires_grad_() for x in make((5, 3), batch=3)]
    results = []
    for backend in ('reference', 'torch'):
        out = slide_attention(*tensors, mask_borders=True, backend=backend)
        results.append([out, *torch.autograd.grad((out * out.detach().cos()).sum(), tensors)])
    for actual, expected in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(('grid', 'size'), [((3, 2), 3), ((1, 2), 5)])
def test_gradients(grid, size, monkeypatch):
    monkeypatch.setattr(cpu, 'TILE_BYTES_CPU', 128)
    q, k, v, weight, bias, rpb = (x.requires_grad_() for x in make(grid, D=2, size=size, batch=1))
    value_weight, value_bias = (x.detach().flip(0).requires_grad_() for x in (weight, bias))
    assert torch.autograd.gradcheck(
        lambda *tensors: slide_attention(
            *tensors[:6], value_weight=tensors[6], value_bias=tensors[7], backend='torch'
        ),
        (q, k, v, weight, bias, rpb, value_weight, value_bias),
        fast_mode=size > 3,
    )


def test_optional_biases_default_to_zero():
    q, k, v, weight, bias, rpb = make((4, 3))
    without = slide_attention(q, k, v, weight)
    torch.testing.assert_close(without, slide_attention(q, k, v, weight, 0 * bias, 0 * rpb))
    assert not torch.allclose(without, slide_attention(q, k, v, weight, bias, rpb))


def test_float32_inside_autocast_and_half():
    tensors = [x.float() for x in make((5, 4))]
    with torch.autocast('cpu', torch.bfloat16):
        out = slide_attention(*tensors)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, slide_attention(*tensors), rtol=0, atol=0)
    half = [x.bfloat16() for x in tensors]
    expected = slide_attention(*(x.float() for x in half)).bfloat16()
    torch.testing.assert_close(slide_attention(*half), expected, rtol=0, atol=0)


def test_memory_for_backward_does_not_hold_taps_of_every_channel():
    q, k, v, weight, bias, rpb = (x.requires_grad_() for x in make((16, 16), heads=1, D=64))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.untyped_storage()) or x, lambda x: x
    ):
        slide_attention(q, k, v, weight, bias, rpb)
    sizes = {storage.data_ptr(): storage.nbytes() for storage in kept}
    assert max(sizes.values()) < 2 * q.numel() * q.element_size()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(weight=torch.zeros(4, 16, 16)), 'odd square'),
        (dict(weight=torch.zeros(3, 9, 9)), 'width 4'),
        (dict(rpb=torch.zeros(3, 9)), 'rpb'),
        (dict(padding_mode='mirror'), 'padding_mode'),
    ],
)
def test_bad_arguments_are_named(change, message):
    names = ('q', 'k', 'v', 'weight', 'bias', 'rpb')
    arguments = {**dict(zip(names, make((3, 3)))), **change}
    with pytest.raises(ValueError, match=message):
        slide_attention(**arguments)
