"""Running the command lines, in this process or as users do."""

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_tool(monkeypatch, name, *arguments):
    """Run ``tools/<name>`` in this process; returns its exit code."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
    return exit_info.value.code


def start_tool(name, *arguments, cwd, path=()):
    """Run ``tools/<name>`` as a command of its own in ``cwd``.

    ``path`` is added to the module search path of the process. Python's and this package's own
    scripts come first on PATH, as in an active environment.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
        'PYTHONPATH': os.pathsep.join(map(str, [ROOT, *path])),
        'OMP_NUM_THREADS': '1',
        'PORT': str(port),
    }
    return subprocess.run(
        [str(ROOT / 'tools' / name), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
