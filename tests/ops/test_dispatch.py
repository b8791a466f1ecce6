from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from mmeffvit import ops
from mmeffvit.ops import dispatch
from mmeffvit.ops.dispatch import Op


@pytest.fixture
def op() -> Op:
    return Op('probe', reference=lambda x: 'reference', fast=lambda x: 'torch')


def test_fast_path_is_the_default(op):
    assert op(torch.zeros(1, 4)) == 'torch'


def test_argument_beats_context(op):
    with ops.use_backend('torch'):
        assert op(torch.zeros(1, 4), backend='reference') == 'reference'


def test_context_is_restored_after_an_error(op):
    with pytest.raises(RuntimeError), ops.use_backend('reference'):
        assert op(torch.zeros(1, 4)) == 'reference'
        raise RuntimeError
    assert op(torch.zeros(1, 4)) == 'torch'


def test_a_named_backend_that_cannot_run_raises(op):
    with pytest.raises(ValueError, match='no Triton kernel'):
        op(torch.zeros(1, 4), backend='triton')


def test_unknown_backend_names_the_choices(op):
    with pytest.raises(ValueError, match='reference, torch, triton'):
        op(torch.zeros(1, 4), backend='cuda')


@pytest.mark.parametrize(('variable', 'warned'), [('MMEFFVIT_BACKEND', 0), ('MMEFFVIT_OPS', 1)])
def test_environment_variable(variable, warned):
    code = (
        'import warnings\n'
        'with warnings.catch_warnings(record=True) as caught:\n'
        '    warnings.simplefilter("always")\n'
        '    from mmeffvit.ops import dispatch\n'
        'print(dispatch.requested_backend(), sum("MMEFFVIT" in str(w.message) for w in caught))'
    )
    environment = {**os.environ, 'MMEFFVIT_OPS': '', 'MMEFFVIT_BACKEND': '', variable: 'reference'}
    run = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ['reference', str(warned)]


def test_context_is_that_of_one_thread(op):
    """Two threads overlap; neither sees the other's backend, and none stays."""
    x, barrier = torch.zeros(1, 4), threading.Barrier(2)

    def inside() -> str:
        with ops.use_backend('reference'):
            barrier.wait(10)
            seen = op(x)
            barrier.wait(10)
        return seen

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(inside)
        barrier.wait(10)
        assert op(x) == 'torch'
        with ops.use_backend('torch'):
            barrier.wait(10)
            assert future.result(10) == 'reference'
        assert op(x) == 'torch'
        assert pool.submit(op, x).result(10) == 'torch'


def test_available_backends():
    assert ops.available_backends()[:2] == ('reference', 'torch')


@pytest.fixture
def kernel(monkeypatch) -> Op:
    """An op whose kernel refuses one column, where Triton interprets and there is no GPU."""
    monkeypatch.setattr(dispatch.importlib.util, 'find_spec', lambda name: name)
    monkeypatch.setitem(sys.modules, 'triton', SimpleNamespace(__version__='3.10.0'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    module = SimpleNamespace(run=lambda x: 'triton')
    monkeypatch.setitem(sys.modules, 'probe_kernels', module)
    return Op(
        'probe',
        reference=lambda x: 'reference',
        fast=lambda x: 'torch',
        triton='probe_kernels:run',
        unsupported_reason=lambda x: 'one column is too few' if x.shape[-1] == 1 else '',
    )


def test_the_interpreter_runs_only_when_asked_for(kernel):
    x = torch.zeros(1, 4)
    assert kernel(x) == 'torch'
    assert kernel(x, backend='triton') == 'triton'
    with ops.use_backend('triton'):
        assert kernel(x) == 'triton'
    assert ops.available_backends() == dispatch.BACKENDS


def test_without_the_interpreter_a_kernel_needs_cuda(kernel, monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET')
    assert ops.available_backends() == ('reference', 'torch')
    with pytest.raises(ValueError, match='on cpu, not on CUDA'):
        kernel(torch.zeros(1, 4), backend='triton')


def test_an_old_triton_is_not_used(kernel, monkeypatch):
    monkeypatch.setitem(sys.modules, 'triton', SimpleNamespace(__version__='3.2.0'))
    assert ops.available_backends() == ('reference', 'torch')
    with pytest.raises(ValueError, match=r'triton 3\.2\.0 is older than 3\.3'):
        kernel(torch.zeros(1, 4), backend='triton')


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def test_an_old_gpu_falls_back(kernel, monkeypatch):
    x = torch.zeros(1, 4).as_subclass(OnCuda)
    assert kernel(x) == 'triton'
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    assert kernel(x) == 'torch'


def test_an_unsupported_shape_falls_back_and_is_logged(kernel, caplog):
    dispatch._logged.clear()
    with caplog.at_level('DEBUG', logger=dispatch.__name__):
        assert kernel(torch.zeros(1, 4).as_subclass(OnCuda)) == 'triton'
        assert kernel(torch.zeros(1, 1).as_subclass(OnCuda)) == 'torch'
    assert [record.getMessage() for record in caplog.records] == [
        'probe on cpu torch.float32: triton',
        'probe on cpu torch.float32: torch (one column is too few)',
    ]
    with pytest.raises(ValueError, match='one column is too few'):
        kernel(torch.zeros(1, 1), backend='triton')


def test_importing_the_package_imports_no_compiler():
    code = "import sys, mmeffvit.backbones; print('torch._dynamo' in sys.modules)"
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == 'False'


def test_the_compiler_takes_the_state_of_kernels_for_constant():
    def marked():
        pass

    expected = vars(torch.compiler.assume_constant_result(marked))
    assert expected and vars(dispatch.kernels_work) == expected
