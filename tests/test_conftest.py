"""What a skip means: never an unnoticed hole in the parity tests, always a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PARITY_TEST = 'tests/ops/test_quadtree_parity.py::test_index_operators'
DEVICE_TEST = 'tests/backbones/test_devices.py'


def run_pytest(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-m', 'pytest', *arguments],
        cwd=Path(__file__).parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('ci, outcome', [('true', '2 failed'), ('', '2 skipped')])
def test_a_missing_recording_is_a_failure_in_ci(tmp_path, ci, outcome):
    result = run_pytest(PARITY_TEST, CI=ci, MMEFFVIT_GOLDENS=str(tmp_path))
    assert outcome in result.stdout, result.stdout
    assert 'the recorded reference outputs are absent' in result.stdout or not ci
    assert result.returncode == bool(ci)


def test_without_a_device_its_tests_say_why_they_skip():
    result = run_pytest('-rs', '-m', 'cuda', DEVICE_TEST, CUDA_VISIBLE_DEVICES='', CI='true')
    assert result.returncode == 0, result.stdout
    assert 'needs a CUDA device' in result.stdout
    assert 'passed' not in result.stdout
