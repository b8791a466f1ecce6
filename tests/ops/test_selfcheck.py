"""The check of a kernel before its first use, with kernels that work, differ and raise."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from helpers.triton_runs import needs_triton
from mmeffvit import ops
from mmeffvit.ops import dispatch, quadtree_fine, selfcheck, slide_attention
from mmeffvit.ops.quadtree import _fine
from mmeffvit.ops.slide import _slide

pytestmark = needs_triton


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU, so that the automatic choice takes the kernel."""

    is_cuda = True


@contextmanager
def silently():
    """Let the warning of a failed check fail the test."""
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='The Triton kernel', category=RuntimeWarning)
        yield


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No kernel was checked, and the interpreter runs for a GPU."""
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setattr(selfcheck, '_broken', set())
    for op in (_fine, _slide):
        monkeypatch.setattr(op, '_checks', selfcheck.Checks(op.name))
        monkeypatch.setattr(op, '_implementations', dict(op._implementations))
        op._implementation('triton')


def _fine_call(trains: bool = False, D: int = 8, backend: str | None = None) -> list[torch.Tensor]:
    own = torch.Generator().manual_seed(0)  # threads share the global one
    q, k, v = torch.randn(3, 2, 32, D, generator=own).unbind()
    index = torch.rand(2, 8, 8, generator=own).topk(3).indices
    v = v.requires_grad_(trains)
    out, *_ = quadtree_fine(q.as_subclass(OnCuda), k, v, index, scale=0.3, topk=2, backend=backend)
    out = out.as_subclass(torch.Tensor)
    return [out.detach(), *(torch.autograd.grad(out.sum(), v) if trains else ())]


def _slide_call(size: int = 3) -> torch.Tensor:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 4, 5, 2, 8).unbind()
    bank = torch.randn(8, size**2, size**2)
    return slide_attention(q.as_subclass(OnCuda), k, v, bank).as_subclass(torch.Tensor)


def _replace(monkeypatch, op, kernel) -> list[tuple]:
    """Put a wrapper around an op's kernel; returns the shapes that it was called with."""
    right, calls = op._implementations['triton'], []

    def broken(*args, **kwargs):
        calls.append(tuple(args[0].shape))
        return kernel(right, *args, **kwargs)

    monkeypatch.setitem(op._implementations, 'triton', broken)
    return calls


@pytest.mark.parametrize('trains', [False, True])
def test_a_kernel_that_works_is_checked_once_and_used(monkeypatch, trains):
    calls = _replace(monkeypatch, _fine, lambda right, *args, **kwargs: right(*args, **kwargs))
    with silently():
        results = [_fine_call(trains) for _ in range(2)]
    assert calls == [(2, 20, 8), (2, 32, 8), (2, 32, 8)]
    for result, expected in zip(results[0], _fine_call(trains, backend='reference')):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_widths_precisions_and_gradients_are_checked_apart(monkeypatch):
    calls = _replace(monkeypatch, _fine, lambda right, *args, **kwargs: right(*args, **kwargs))
    for trains, D, checks in ((False, 8, 1), (False, 16, 0), (False, 24, 1), (True, 8, 1)):
        calls.clear()
        _fine_call(trains, D)
        assert len(calls) == checks + 1


def _raises(right, *args, **kwargs):
    raise RuntimeError('no kernel image is available\nfor this card')


def _differs(right, q, *args, **kwargs):
    out, *others = right(q, *args, **kwargs)
    return out + 0.01, *others


def _not_finite(right, q, *args, **kwargs):
    out, *others = right(q, *args, **kwargs)
    return out / 0, *others


@pytest.mark.parametrize(
    ('kernel', 'message'),
    [
        (_raises, r'raised RuntimeError \(no kernel image is available\)'),
        (_differs, r'differs from the reference by \d\.\de-0[23]'),
        (_not_finite, 'not finite'),
    ],
)
def test_a_broken_kernel_is_named_once_and_not_used(monkeypatch, kernel, message):
    calls = _replace(monkeypatch, _fine, kernel)
    expected = _fine_call(backend='torch')
    with pytest.warns(RuntimeWarning, match=message) as caught:
        results = _fine_call()
    text = str(caught[0].message)
    assert all(word in text for word in ('quadtree_fine', 'cpu', 'triton 3.', 'torch.float32'))
    assert torch.equal(results[0], expected[0])
    with silently():
        assert torch.equal(_fine_call()[0], expected[0])
    assert calls == [(2, 20, 8)]
    assert dispatch.is_broken('quadtree_fine', torch.device('cpu'))
    if kernel is not _raises:  # who asks by name gets the kernel
        assert not torch.equal(_fine_call(backend='triton')[0], expected[0])


def test_wrong_gradients_are_found_where_gradients_are_recorded(monkeypatch):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    def kernel(right, q, k, v, *args, **kwargs):
        return right(q, k, Double.apply(v), *args, **kwargs)

    _replace(monkeypatch, _fine, kernel)
    with silently():
        _fine_call()
    with pytest.warns(RuntimeWarning, match='differs'):
        results = _fine_call(trains=True)
    for result, expected in zip(results, _fine_call(True, backend='torch')):
        torch.testing.assert_close(result, expected)


def test_slide_is_checked(monkeypatch):
    with silently():
        out = _slide_call()
    with ops.use_backend('reference'):
        torch.testing.assert_close(out, _slide_call(), rtol=1e-4, atol=1e-5)
    _replace(monkeypatch, _slide, lambda right, *args: right(*args) + 0.01)
    with pytest.warns(RuntimeWarning, match=r'slide_attention differs'):
        _slide_call(size=5)


def test_a_context_or_name_is_not_checked(monkeypatch):
    calls = _replace(monkeypatch, _fine, _differs)
    with ops.use_backend('triton'):
        _fine_call()
    _fine_call(backend='triton')
    assert calls == [(2, 32, 8)] * 2


def test_nothing_is_checked_while_a_graph_is_captured(monkeypatch):
    class Device:
        type = 'cuda'

    checks = selfcheck.Checks('probe')
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    first = type('Fake', (), dict(device=Device(), dtype=torch.float32))()

    def never(*args, **kwargs):
        raise AssertionError('checked')

    assert checks.passed(never, never, lambda *_: ('variant', never), (first,), {})
    assert not checks.results


def test_the_random_state_and_autocast_are_left_alone():
    state = torch.get_rng_state()
    q, k, v = torch.ones(3, 2, 32, 8).unbind()
    index = torch.zeros(2, 8, 1, dtype=torch.long)
    with torch.autocast('cpu', torch.bfloat16), torch.inference_mode(), silently():
        quadtree_fine(q.as_subclass(OnCuda), k, v, index, scale=0.3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(_fine._checks.results.values())


def test_threads_check_once(monkeypatch):
    one_at_a_time = threading.Lock()  # Triton's interpreter is not safe in threads

    def slow(right, *args, **kwargs):
        time.sleep(0.05)
        with one_at_a_time:
            return right(*args, **kwargs)

    calls = _replace(monkeypatch, _fine, slow)
    with ThreadPoolExecutor(4) as pool, silently():
        results = [future.result() for future in [pool.submit(_fine_call) for _ in range(4)]]
    assert calls.count((2, 20, 8)) == 1
    assert calls.count((2, 32, 8)) == 4
    assert all(torch.equal(result[0], results[0][0]) for result in results)
