import subprocess
from types import SimpleNamespace

import pytest
import torch
from torch.utils import cpp_extension

from mmeffvit.utils import device


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretend to be a machine with or without GPU, nvcc and CUDA operators."""

    def build(gpu=True, driver=True, nvcc=None, operators=False):
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Some GPU')
        monkeypatch.setattr(torch.version, 'cuda', '13.0')
        monkeypatch.setattr(device, 'mmcv_has_cuda', lambda: operators)
        version = tmp_path / 'version'
        if driver:
            version.touch()
        monkeypatch.setattr(device, 'NVIDIA_DRIVER', version)
        monkeypatch.setattr(cpp_extension, 'CUDA_HOME', None)
        if nvcc:
            compiler = tmp_path / 'bin' / 'nvcc'
            compiler.parent.mkdir()
            compiler.write_text(f'#!/bin/sh\necho "Cuda compilation tools, release {nvcc}"\n')
            compiler.chmod(0o755)
            monkeypatch.setattr(cpp_extension, 'CUDA_HOME', str(tmp_path))

    return build


def test_gpu_with_operators_is_used(machine):
    machine(operators=True)
    name, reason = device.choose_device()
    assert name == 'cuda'
    assert 'Some GPU' in reason


@pytest.mark.parametrize(
    ('facts', 'said'),
    [
        (dict(gpu=False, driver=False), 'no NVIDIA GPU'),
        (dict(gpu=False), 'cannot use the GPU'),
        (dict(), 'no nvcc'),
        (dict(nvcc='12.4, V12.4.131'), 'nvcc is of CUDA 12.4, but torch needs CUDA 13'),
        (dict(nvcc='13.0, V13.0.48'), 'remove .venv'),
    ],
)
def test_cpu_is_used_and_the_reason_said(machine, facts, said):
    machine(**facts)
    name, reason = device.choose_device()
    assert name == 'cpu'
    assert said in reason


def test_operators_are_built_with_a_matching_compiler(machine):
    machine(nvcc='13.0, V13.0.48')
    assert device.cuda_build_obstacle() is None


def test_hidden_gpu_is_named(machine, monkeypatch):
    machine(gpu=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert 'CUDA_VISIBLE_DEVICES' in device.choose_device()[1]


def test_nvcc_that_says_nothing_is_no_reason_to_build(machine, monkeypatch):
    machine(nvcc='13.0')
    silent = SimpleNamespace(stdout='')
    monkeypatch.setattr(subprocess, 'run', lambda *args, **kwargs: silent)
    assert 'unknown' in device.cuda_build_obstacle()
