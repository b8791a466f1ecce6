"""Every command of the checkout: its help, and how it finds the package."""

from __future__ import annotations

import pytest

from helpers.tool_runs import ROOT, run_tool

COMMANDS = sorted(
    path.relative_to(ROOT)
    for folder in ('tools', 'demo', 'scripts')
    for path in (ROOT / folder).rglob('*.py')
    if 'run_cli(main)' in path.read_text() and 'bench' not in path.parts
)


@pytest.mark.parametrize('command', COMMANDS, ids=str)
def test_help(monkeypatch, capsys, command):
    assert run_tool(monkeypatch, f'../{command}', '--help') == 0
    assert capsys.readouterr().out.startswith('usage: ')


@pytest.mark.parametrize('command', COMMANDS, ids=str)
def test_the_package_is_found_as_it_is_installed(command):
    source = (ROOT / command).read_text()
    assert 'sys.path' not in source
    assert source.startswith('#!/usr/bin/env python\n')
    assert (ROOT / command).stat().st_mode & 0o111, f'{command} is not executable'
