from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mmeffvit import ops
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


def test_environment_variable():
    code = 'from mmeffvit.ops import dispatch; print(dispatch._forced)'
    environment = dict(os.environ, MMEFFVIT_OPS='reference')
    run = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ['reference']


def test_available_backends():
    assert ops.available_backends()[:2] == ('reference', 'torch')
