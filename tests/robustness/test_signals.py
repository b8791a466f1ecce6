"""SIGINT and SIGTERM in every tool: one line, a code of its own, and no file that is not whole."""

import random
import shutil
import signal

import pytest

from helpers import forked, workshop

pytestmark = pytest.mark.slow

MOMENTS = 2
#: Written line by line, so that an abort loses no prediction.
GROWING = ('predictions.jsonl',)


@pytest.fixture(scope='module')
def room(tmp_path_factory, shapes):
    """Folder that the commands run in."""
    folder = tmp_path_factory.mktemp('room')
    workshop.furnish(folder, shapes)
    return folder


def run(room, tool, when=0.0, number=signal.SIGTERM):
    """Run a tool anew, perhaps signalled; its exit code, output, seconds and files."""
    shutil.rmtree(room / 'out', ignore_errors=True)
    for path in room.glob('*.onnx*'):
        path.unlink()
    before = set(room.rglob('*'))
    log = room.with_name('log')
    here, there = forked.pipe()
    process = forked.start(
        forked.run_tool, tool, workshop.COMMANDS[tool], room, log, when, number, there
    )
    code = forked.ended(process)
    found = sorted(path for path in set(room.rglob('*')) - before if path.is_file())
    files = {path.relative_to(room).as_posix(): path.read_bytes() for path in found}
    done = here.recv() if here.poll() else None
    return code, log.read_text(errors='replace'), done, files


@pytest.mark.parametrize('tool', workshop.COMMANDS)
def test_a_signal_ends_every_tool(figure, room, tool):
    code, text, seconds, whole = run(room, tool)
    assert code == 0, text
    if seconds < 0.05:
        pytest.skip('is done before a signal can come')
    rng = random.Random(tool)
    tried = held = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        for _ in range(MOMENTS if seconds < 1 else 1):
            code, text, _, files = run(room, tool, rng.uniform(0.01, 0.6) * seconds, number)
            tried += 1
            wrong = [name for name, content in files.items() if not is_whole(name, content, whole)]
            one_line = text.rstrip().splitlines()[-1] == f'error: interrupted by {number.name}.'
            if code == 128 + number and one_line and 'Traceback' not in text and not wrong:
                held += 1
            else:
                print(tool, number, code, wrong, text[-3000:])
    figure('SIGINT and SIGTERM in every tool', tried, held)
    assert held == tried


def is_whole(name, content, whole):
    """Whether a file is what the undisturbed run wrote, or is meant to grow."""
    if name.endswith(GROWING) or '/20' in name:  # logs of runs are in folders of their start
        return True
    if '.partial' in name:
        return False
    if name.endswith('.py'):  # configs, which may name where results are written meanwhile
        return compile(content, name, 'exec') is not None and name in whole
    return whole.get(name) == content
