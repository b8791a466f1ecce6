import os
import random

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from shapes import ShapesConfig, make_shapes

SHAPES = ShapesConfig(
    num_train=8,
    num_val=4,
    size_range=(64, 90),
    num_train_clips=1,
    num_val_clips=1,
    num_frames=3,
)

# No test reaches for the network: runs start from scratch, and published weights come from nowhere.
os.environ.setdefault('MMEFFVIT_FROM_SCRATCH', '1')
os.environ.setdefault('MMEFFVIT_WEIGHTS', os.path.join(os.path.dirname(__file__), 'no-weights'))

# Triton decides when it is imported whether to interpret its kernels, as it must without a GPU.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """Folder of a tiny shapes dataset, all tasks of it."""
    out = tmp_path_factory.mktemp('shapes')
    make_shapes(out, SHAPES)
    return out


def pytest_runtest_setup(item):
    """Tests marked ``cuda`` skip, with the reason, on machines without a device."""
    if item.get_closest_marker('cuda') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In continuous integration a parity test that skips is a failure: it would prove nothing."""
    report = yield
    is_parity_test = 'load_golden' in vars(item.module) or 'find_golden' in vars(item.module)
    may_skip = hasattr(report, 'wasxfail') or item.get_closest_marker('cuda') is not None
    if os.environ.get('CI') == 'true' and is_parity_test and report.skipped and not may_skip:
        report.outcome = 'failed'
        report.longrepr = f'A parity test must not skip under CI=true: {report.longrepr[2]}'
    return report


@pytest.fixture(autouse=True)
def same_random_numbers():
    """A test draws the same numbers in every order and on every machine."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope='module')
def start_without_default_scope():
    """Nor must one that a fixture makes the default reach another module."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def leave_no_default_scope():
    """A scope that a test, or a Runner in it, makes the default must not reach the next test."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


def pytest_terminal_summary(terminalreporter):
    """Print the figures of ``tests/robustness`` as a table, rows of one name added up."""
    reports = [r for group in terminalreporter.stats.values() for r in group]
    rows: dict[str, list] = {}
    for report in reports:
        if getattr(report, 'when', None) != 'call':
            continue
        for trial, tried, held, worst in (v for k, v in report.user_properties if k == 'figure'):
            row = rows.setdefault(trial, [0, 0, None])
            row[0] += tried
            row[1] += held
            row[2] = max((x for x in (row[2], worst) if x is not None), default=None)
    if not rows:
        return
    terminalreporter.section('robustness')
    terminalreporter.write_line('| trial | tried | held | farthest apart |')
    terminalreporter.write_line('| --- | ---: | ---: | ---: |')
    for trial, (tried, held, worst) in rows.items():
        apart = '' if worst is None else f'{worst:.1e}'
        terminalreporter.write_line(f'| {trial} | {tried:,} | {held:,} | {apart} |')
