from pathlib import Path

import pytest

from mmeffvit.cli import collect_env
from mmeffvit.cli.collect_env import Installed, find_warnings

HEALTHY = {
    'torch': Installed('torch', ['torch 2.11.0']),
    'torchvision': Installed('torchvision', ['torchvision 0.26.0']),
    'mmcv': Installed('mmcv', ['onedl-mmcv 2.3.6']),
    'mmdet': Installed('mmdet', ['onedl-mmdetection 3.5.1']),
}


def warnings_of(*changed, operators=None, wanted='2.11.0'):
    installed = HEALTHY | {entry.module: entry for entry in changed}
    return find_warnings(list(installed.values()), operators, wanted)


def test_a_healthy_environment_has_no_warnings():
    assert warnings_of() == []


def test_missing_libraries_are_no_problem():
    missing = Installed('mmdet', [], "ModuleNotFoundError: No module named 'mmdet'")
    assert warnings_of(missing) == []


def test_two_owners():
    (warning,) = warnings_of(Installed('mmcv', ['mmcv 2.1.0', 'onedl-mmcv 2.3.6']))
    assert 'mmcv has two owners (mmcv 2.1.0, onedl-mmcv 2.3.6)' in warning


def test_missing_operators():
    (warning,) = warnings_of(operators="ModuleNotFoundError: No module named 'mmcv._ext'")
    assert 'no compiled operators' in warning


def test_operators_are_not_missed_without_mmcv():
    assert warnings_of(Installed('mmcv', [], 'absent'), operators='absent') == []


@pytest.mark.parametrize(
    ('torch', 'wanted', 'count'),
    [
        ('2.11.0', '2.11.0', 0),
        ('2.11.0+cpu', '2.11.0', 0),
        ('2.12.1', '2.11.0', 1),
        ('2.12.1', None, 0),
    ],
)
def test_torchvision_pair(torch, wanted, count):
    warnings = warnings_of(Installed('torch', [f'torch {torch}']), wanted=wanted)
    assert len(warnings) == count
    assert all('reinstall them as a pair' in warning for warning in warnings)


def test_installed_but_broken():
    (warning,) = warnings_of(
        Installed('torchvision', ['torchvision 0.26.0'], 'RuntimeError: no operator nms')
    )
    assert 'cannot be imported: RuntimeError: no operator nms' in warning


@pytest.mark.parametrize(
    ('requirement', 'version'),
    [('torch==2.11.0', '2.11.0'), ('torch (==2.1.0+cu118)', '2.1.0+cu118'), ('numpy', None)],
)
def test_version_is_read_from_torchvision(monkeypatch, requirement, version):
    monkeypatch.setattr(collect_env.metadata, 'requires', lambda name: ['pillow', requirement])
    assert collect_env.torch_wanted_by_torchvision() == version


def test_bug_reports_ask_for_it():
    template = Path(__file__).parents[2] / '.github/ISSUE_TEMPLATE/bug.yml'
    assert f'python -m {collect_env.__name__}' in template.read_text()


class Distribution:
    """A stand-in for an installed distribution."""

    def __init__(self, name, version, record):
        self.metadata, self.version, self.record = {'Name': name}, version, record

    def read_text(self, filename):
        return self.record if filename == 'RECORD' else None


def test_owners_are_read_from_the_lists_of_files():
    distributions = [
        Distribution('onedl-mmcv', '2.3.6', 'docs/__init__.py,,\nmmcv/__init__.py,sha256=x,9\n'),
        Distribution('mmcv', '2.1.0', 'mmcv/__init__.py,,\n'),
        Distribution('tool', '1', 'tool/vendored/mmcv/__init__.py,,\nmmcv/extra.py,,\n'),
        Distribution('mmeffvit', '0.1.0', '__editable__.mmeffvit-0.1.0.pth,,\n'),
        Distribution('no-record', '1', None),
    ]
    owners = collect_env.find_owners(['mmcv', 'mmdet', 'mmeffvit'], distributions)
    assert owners == {
        'mmcv': ['mmcv 2.1.0', 'onedl-mmcv 2.3.6'],
        'mmdet': [],
        'mmeffvit': ['mmeffvit 0.1.0'],
    }


def test_report_names_the_owners():
    lines = dict(line.split(': ', 1) for line in collect_env.collect_env().splitlines())
    version = collect_env.metadata.version('torch')
    assert lines['torch'] == f'torch {version}'
    assert lines['mmeffvit'] != 'not installed'
    assert lines['device'].startswith(('cpu (', 'cuda ('))
