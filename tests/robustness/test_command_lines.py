"""Hundreds of mistakes on command lines: exit code 2, one line that names it, nothing written."""

import re

import pytest
from mmengine.logging import MMLogger

from helpers import mistakes, workshop
from helpers.tool_runs import ROOT, run_tool

# Commands show warnings; only in tests they are errors.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('default')]


@pytest.fixture(scope='module')
def room(tmp_path_factory, shapes):
    """Folder that the commands run in."""
    for framework in ('mmdet', 'mmpretrain'):
        pytest.importorskip(framework)
    folder = tmp_path_factory.mktemp('room')
    workshop.furnish(folder, shapes)
    mistakes.furnish(folder)
    return folder


def files(room):
    """What there is, with its size, but for the logs and the config of a run that came as far."""
    return {
        path: path.stat().st_size
        for path in room.rglob('*')
        if path.is_file() and not re.search(r'/out/(\d{8}_\d{6}/|\w+\.py$)', path.as_posix())
    }


def complaint(captured, word):
    """What is wrong with the output of a command that was to complain in one line."""
    lines = [line for line in captured.splitlines() if line.startswith('error:')]
    if 'Traceback' in captured or len(lines) != 1 or not captured.rstrip().endswith(lines[0]):
        return captured[-1500:]
    key, _, value = word.partition('=')
    named = {word, value, key.rpartition('.')[2], key.partition('.')[0]} - {''}
    return '' if not word or any(text in lines[0] for text in named) else lines[0]


def test_every_tool_is_here():
    found = {path.relative_to(ROOT / 'tools').as_posix() for path in (ROOT / 'tools').rglob('*.py')}
    assert found == set(workshop.COMMANDS), 'give the tool a command in helpers/workshop.py'


@pytest.mark.parametrize('tool', workshop.COMMANDS)
def test_a_mistake_is_one_line(figure, room, tool, monkeypatch, capsys):
    monkeypatch.chdir(room)
    before = files(room)
    wrong = []
    commands = list(mistakes.commands(tool))
    for arguments, word in commands:
        MMLogger._instance_dict.clear()  # of earlier tests, whose streams are closed
        code = run_tool(monkeypatch, tool, *arguments)
        found = complaint(capsys.readouterr().err, word)
        there = files(room)
        if code != 2 or found or there != before:
            written = sorted(str(path.relative_to(room)) for path in there.keys() ^ before.keys())
            wrong.append((arguments, word, code, written, found))
            before = there
    figure('mistakes on command lines', len(commands), len(commands) - len(wrong))
    for case in wrong:
        print(*case, sep='\n  ')
    assert not wrong
