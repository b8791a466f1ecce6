"""A pytest plugin that records every test as it ends, and leaves a broken CUDA context."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.records import Recorder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--check-log``."""
    parser.addoption('--check-log', type=Path, help='append a JSON line per test to this file')


def pytest_configure(config: pytest.Config) -> None:
    """Record in the process that collects the reports, not in its workers."""
    if hasattr(config, 'workerinput'):
        config.pluginmanager.register(ContextGuard())
    elif config.option.check_log:
        config.pluginmanager.register(TestRecorder(Recorder(config.option.check_log)))


class TestRecorder:
    """Writes name, outcome, time, properties and the message of every test."""

    __test__ = False

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the test's call, or what failed before or after it."""
        if report.when != 'call' and report.outcome == 'passed':
            return
        message = ''
        if report.outcome == 'failed':
            crash = getattr(report.longrepr, 'reprcrash', None)
            message = str(crash.message if crash else report.longrepr)[-1500:]
        self.recorder.write(
            'test',
            part=os.environ.get('MMEFFVIT_GPU_PART', ''),
            name=report.nodeid,
            outcome=report.outcome,
            seconds=round(report.duration, 2),
            message=message,
            **dict(report.user_properties),
        )


class ContextGuard:
    """Ends a worker whose CUDA context an illegal access has broken; xdist starts another."""

    def pytest_runtest_logfinish(self) -> None:
        """Ask the device for a sign of life."""
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            try:
                torch.cuda.synchronize()
            except RuntimeError:
                os._exit(1)
