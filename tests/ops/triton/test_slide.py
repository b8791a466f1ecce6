"""The Triton kernels of Slide attention against the convolution form in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.triton_runs import DEVICE, needs_triton
from mmeffvit.layers import SlideAttention
from mmeffvit.ops import slide, slide_attention, use_backend
from mmeffvit.ops.dispatch import triton_interpreted

pytestmark = needs_triton


def make(grid, D, size, heads=1, batch=1, dtype=torch.float32) -> list[Tensor]:
    """Queries, keys and values of a dtype, bank and biases in float32."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    qkv = [random(batch, *grid, heads, D).to(dtype) for _ in range(3)]
    taps = size**2
    tables = [random(D, taps, taps) / size, random(D, taps), random(heads, taps)]
    return [x.to(DEVICE) for x in qkv + tables]


def values_and_gradients(tensors: list[Tensor], backend: str, **options) -> list[Tensor]:
    tensors = [x.detach().requires_grad_() for x in tensors]
    names = ('q', 'k', 'v', 'weight', 'bias', 'rpb', 'value_weight', 'value_bias')
    out = slide_attention(**dict(zip(names, tensors)), **options, backend=backend)
    weights = torch.arange(out.numel(), device=out.device, dtype=torch.float64).sin()
    loss = (out.double() * weights.view_as(out)).sum()
    return [out, *torch.autograd.grad(loss, tensors)]


def assert_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Errors relative to the largest entry, or to 1 if all are smaller."""
    for a, e in zip(actual, expected, strict=True):
        error = (a.double() - e.double()).abs().max() / e.double().abs().max().clamp(min=1)
        assert error <= tolerance, error


def assert_equals_reference(tensors: list[Tensor], tolerance: float, **options) -> None:
    actual = values_and_gradients(tensors, 'triton', **options)
    expected = values_and_gradients([x.double() for x in tensors], 'reference', **options)
    assert [x.dtype for x in actual[1:]] == [x.dtype for x in tensors]
    assert_close(actual, expected, tolerance)


@pytest.mark.parametrize(
    'shape',
    [
        dict(grid=(5, 4), D=8, size=3, heads=2, batch=2),
        dict(grid=(3, 5), D=20, size=5),
        dict(grid=(2, 3), D=4, size=5),  # smaller than the window
        dict(grid=(1, 1), D=8, size=3),
        dict(grid=(9, 8), D=24, size=3),  # several tiles of pixels and of channels
    ],
    ids=str,
)
def test_equals_float64(shape):
    assert_equals_reference(make(**shape), 1e-5)


@pytest.mark.parametrize(('grid', 'size'), [((9, 8), 3), ((2, 3), 5), ((1, 1), 3)])
def test_masked_borders(grid, size):
    assert_equals_reference(make(grid, D=4, size=size), 1e-5, mask_borders=True)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)], ids=str
)
@pytest.mark.parametrize('size', [3, 5, 7])
def test_half_precision(dtype, tolerance, size):
    assert_equals_reference(make((6, 5), D=8, size=size, dtype=dtype), tolerance)


@pytest.mark.skipif(not triton_interpreted(), reason='patches the interpreter')
def test_matrix_units_that_cut_off_do_no_harm(monkeypatch):
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def cut_off(x: TensorHandle) -> TensorHandle:
        bits = np.ascontiguousarray(x.data).view(np.uint32) & np.uint32(0xFFFFE000)
        return TensorHandle(bits.view(np.float32), x.dtype)

    create_dot = InterpreterBuilder.create_dot
    monkeypatch.setattr(
        InterpreterBuilder,
        'create_dot',
        lambda self, a, b, *rest: create_dot(self, cut_off(a), cut_off(b), *rest),
    )
    tensors = make((6, 5), D=8, size=7, dtype=torch.float16)
    assert_equals_reference(tensors, 1e-3)


@pytest.mark.parametrize('padding_mode', ['reflect', 'replicate', 'circular'])
def test_padding_modes(padding_mode):
    assert_equals_reference(make((4, 3), D=4, size=3), 1e-5, padding_mode=padding_mode)


def test_a_bank_of_its_own_for_the_values():
    tensors = make((4, 3), D=4, size=3)
    tensors += [x.flip(0) for x in tensors[3:5]]
    assert_equals_reference(tensors, 1e-5)


def test_plain_local_attention_without_biases():
    tensors = make((4, 5), D=8, size=3)
    tensors[3] = torch.eye(9, device=DEVICE).expand(8, -1, -1)
    assert_equals_reference(tensors[:4], 1e-5)


def test_one_program_may_sum_many_tiles(monkeypatch):
    from mmeffvit.ops.slide import triton as kernels

    monkeypatch.setattr(kernels, 'BANK_PROGRAMS', 1)
    assert_equals_reference(make((9, 8), D=4, size=3, batch=2), 1e-5)


@pytest.mark.parametrize('options', [dict(separate_banks=True), dict(rpb=False, deploy=True)])
def test_layer_equals_torch_path(options):
    torch.manual_seed(0)
    layer = SlideAttention(24, 2, **options).to(DEVICE)
    x = torch.randn(2, 30, 24, device=DEVICE)
    results = []
    for backend in ('torch', 'triton'):
        with use_backend(backend):
            out = layer(x, (5, 6))
        parameters = [p for p in layer.parameters() if p.requires_grad]
        results.append([out, *torch.autograd.grad(out.cos().sum(), parameters)])
    assert_close(*results, tolerance=1e-5)


def test_views_of_one_projection_are_not_copied():
    from mmeffvit.ops.slide.triton import _evenly_spaced

    qkv = torch.randn(2, 4, 3, 2, 3, 8)
    keys = qkv.unbind(-2)[1]
    assert _evenly_spaced(keys) is keys
    rows = keys[:, :3]
    assert _evenly_spaced(rows).is_contiguous()


def test_a_window_too_large_falls_back(monkeypatch):
    class OnCuda(torch.Tensor):
        is_cuda = True

    def kernel(*args):
        raise AssertionError('the kernel ran')

    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setitem(slide._slide._implementations, 'triton', kernel)
    monkeypatch.setattr(slide._slide, '_passes', lambda *_: True)
    for size, dtype in ((9, torch.float16), (7, torch.float32)):
        q, *others = make((2, 2), D=4, size=size, dtype=dtype)
        with pytest.raises(ValueError, match=f'window of {size}x{size} is over'):
            slide_attention(q, *others, backend='triton')
        expected = slide_attention(q, *others, backend='torch')
        assert torch.equal(slide_attention(q.as_subclass(OnCuda), *others), expected)
    q, *others = make((2, 2), D=4, size=5)
    with pytest.raises(AssertionError, match='the kernel ran'):
        slide_attention(q.as_subclass(OnCuda), *others)


def test_a_map_too_large_gives_a_reason():
    qkv = torch.empty(1, 2**13, 2**13, 2, 3, 8, device='meta', dtype=torch.float16)
    bank = torch.empty(9, 9, 8, device='meta')
    assert '32-bit' in slide._unsupported_reason(*qkv.unbind(-2), bank)
    assert not slide._unsupported_reason(*qkv[:, :64].unbind(-2), bank)
