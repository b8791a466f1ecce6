import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A copy of what the set-up reads, in a folder with a space in its name."""
    root = tmp_path / 'a project'
    shutil.copytree(REPOSITORY / 'requirements', root / 'requirements')
    (root / 'scripts').mkdir()
    for name in ('setup.py', 'scripts/setup_env.sh', 'scripts/setup_env.py'):
        shutil.copy(REPOSITORY / name, root / name)
    return root


@pytest.fixture
def setup_env(project):
    """The set-up script as a module, working on the copy."""
    spec = importlib.util.spec_from_file_location('setup_env', project / 'scripts/setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LOG.parent.mkdir()
    return module


def run_script(project, commands, **environment):
    """Run the set-up with nothing on the path but some commands."""
    folder = project / 'bin'
    folder.mkdir()
    for name in {'sh', 'dirname', 'tail', *commands}:
        target = sys.executable if name == 'python3' else shutil.which(name)
        # A script, not a link: an interpreter finds its environment by the path it is called by.
        (folder / name).write_text(f'#!/bin/sh\nexec {target} "$@"\n')
        (folder / name).chmod(0o755)
    return subprocess.run(
        [shutil.which('sh'), project / 'scripts/setup_env.sh'],
        env={'PATH': str(folder), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ('commands', 'said', 'package'),
    [
        (['git', 'make'], 'a C++ compiler (c++ or g++) is missing', 'g++'),
        (['make', 'c++'], 'git is missing', 'git'),
        (['git', 'g++'], 'make is missing', 'make'),
        (['make'], 'git, a C++ compiler (c++ or g++) is missing', 'git g++'),
    ],
)
def test_missing_command_is_named_in_one_line(project, commands, said, package):
    result = run_script(project, ['python3', *commands])
    assert result.returncode == 1
    expected = f'error: {said} (on Debian and Ubuntu: apt-get install {package})\n'
    assert result.stderr == expected
    assert not (project / '.venv').exists()


def test_unsupported_python_is_named_in_one_line(project):
    old = project / 'old python'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18 || exit 1\n')
    old.chmod(0o755)
    result = run_script(project, [], PYTHON=str(old))
    assert result.returncode == 1
    assert result.stderr.startswith('error: Python 3.10 to 3.12 is missing: ')
    assert 'old python is Python 3.8.18; ' in result.stderr
    assert result.stderr.count('\n') == 1


def test_no_python_is_named_in_one_line(project):
    result = run_script(project, [])
    assert result.returncode == 1
    assert 'python3 is not there' in result.stderr
    assert result.stderr.count('\n') == 1


def test_missing_header_and_venv_are_named(setup_env, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: str(tmp_path))
    monkeypatch.setattr(setup_env, 'find_spec', lambda name: None)
    with pytest.raises(setup_env.SetupError) as info:
        setup_env.check_prerequisites()
    assert 'the header Python.h of Python 3.' in str(info.value)
    assert 'the module venv of Python 3.' in str(info.value)


def test_compiler_that_cannot_compile_is_named(setup_env, monkeypatch, tmp_path):
    fake = tmp_path / 'cxx'
    fake.write_text('#!/bin/sh\necho "error: unrecognized option -std=c++17" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv('CXX', str(fake))
    with pytest.raises(setup_env.SetupError, match=r'does not compile C\+\+17: error: unrec'):
        setup_env.check_compiler()


def test_full_disk_is_named(setup_env, monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(setup_env.shutil, 'disk_usage', lambda path: usage(0, 0, 2.5e9))
    with pytest.raises(setup_env.SetupError, match=r'has 2\.5 GB free'):
        setup_env.check_disk()


def test_other_systems_are_refused(setup_env, monkeypatch, capsys):
    monkeypatch.setattr(setup_env.sys, 'platform', 'darwin')
    assert setup_env.main() == 1
    assert capsys.readouterr().err == 'error: Linux is needed, this is darwin\n'


def test_ready_until_something_it_depends_on_changes(setup_env):
    setup_env.PYTHON.parent.mkdir(parents=True)
    setup_env.PYTHON.touch()
    assert not setup_env.is_ready()
    setup_env.STAMP.write_text(json.dumps({'key': setup_env.stamp_key()}))
    assert setup_env.is_ready()
    assert setup_env.main() == 0
    with (setup_env.REQUIREMENTS / 'constraints.txt').open('a') as file:
        file.write('torch==9\n')
    assert not setup_env.is_ready()


def test_half_made_environment_is_made_again(setup_env):
    setup_env.PYTHON.parent.mkdir(parents=True)
    setup_env.PYTHON.symlink_to('/nowhere/python3')
    setup_env.create_venv(setup_env.Console(steps=1))
    assert setup_env.ask('import pip; print("whole")') == 'whole'


def test_environment_of_another_python_is_not_touched(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env, 'ask', lambda program: '3.9')
    with pytest.raises(setup_env.SetupError, match=r'\.venv is of Python 3\.9, not 3\.'):
        setup_env.create_venv(setup_env.Console(steps=1))


def test_failed_command_gives_its_reason_and_the_log(setup_env):
    console = setup_env.Console(steps=1)
    code = 'print("collecting"); raise SystemExit("ERROR: no matching distribution")'
    with pytest.raises(setup_env.SetupError) as info, console.step('x'):
        console.run([sys.executable, '-c', code])
    assert str(info.value) == f'ERROR: no matching distribution (log: {setup_env.LOG})'
    assert 'collecting' in setup_env.LOG.read_text()


def test_killed_command_is_told_from_a_failed_one(setup_env):
    code = 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'
    with pytest.raises(setup_env.SetupError, match='SIGKILL ended a command'):
        setup_env.Console(steps=1).run([sys.executable, '-c', code])


def test_known_failures_are_told_in_plain_words(setup_env):
    output = (
        'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device'
    )
    assert setup_env.diagnose(output) == 'the disk is full'


def test_long_steps_show_progress(setup_env, monkeypatch, capsys):
    monkeypatch.setattr(setup_env, 'HEARTBEAT', 0.1)
    console = setup_env.Console(steps=3)
    code = 'import time; print("Collecting torch", flush=True); time.sleep(2)'
    with console.step('torch'):
        console.run([sys.executable, '-c', code])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '[1/3] torch'
    assert any(line.endswith('Collecting torch') for line in lines)
    assert lines[-1].startswith('      done in 0:0')


def test_compiler_progress_gives_the_remaining_time(setup_env):
    output = 'Building wheel\n  [1/132] c++ a.cpp\n  [33/132] c++ b.cpp\n'
    assert setup_env.progress(output, 120) == 'compiled 33 of 132 files, about 6:00 to go'


class Recorder:
    """Answers questions from a list and records the commands; installs nothing."""

    def __init__(self, answers):
        self.answers, self.commands = list(answers), []

    def ask(self, program):
        return self.answers.pop(0)

    def run(self, command, environment=None):
        self.commands.append((command, environment))

    def say(self, text):
        pass


def install_mmcv(setup_env, monkeypatch, answers):
    recorder = Recorder(answers)
    monkeypatch.setattr(setup_env, 'ask', recorder.ask)
    setup_env.install_mmcv(recorder)
    assert recorder.answers == []
    return recorder.commands


def test_operators_for_the_cpu_hide_a_gpu_from_the_build(setup_env, monkeypatch):
    commands = install_mmcv(setup_env, monkeypatch, ['there is a GPU but no nvcc', '', 'CPU'])
    ((command, environment),) = commands
    assert 'onedl-mmcv' in command
    assert environment['FORCE_CUDA'] == '0'
    assert environment['CUDA_VISIBLE_DEVICES'] == ''


def test_operators_for_cuda_are_built_with_gpu_and_nvcc(setup_env, monkeypatch):
    ((_, environment),) = install_mmcv(setup_env, monkeypatch, ['', '', 'CUDA'])
    assert environment['FORCE_CUDA'] == '1'
    assert 'CUDA_VISIBLE_DEVICES' not in environment


@pytest.mark.parametrize('cached', ['none undefined symbol', 'CPU'])
def test_cached_build_that_does_not_fit_is_built_anew(setup_env, monkeypatch, cached):
    commands = install_mmcv(setup_env, monkeypatch, ['', '', cached, 'CUDA'])
    assert [('--no-cache-dir' in command) for command, _ in commands] == [False, True]


def test_operators_that_never_load_stop_the_setup(setup_env, monkeypatch):
    broken = 'none undefined symbol'
    with pytest.raises(setup_env.SetupError, match='do not load: none undefined symbol'):
        install_mmcv(setup_env, monkeypatch, ['no GPU', '', broken, broken, broken])


def test_opencv_without_libgl_is_replaced(setup_env, monkeypatch):
    commands = install_mmcv(setup_env, monkeypatch, ['no GPU', 'libGL.so.1: cannot open', 'CPU'])
    assert commands[1][0][-1] == 'opencv-python-headless'


def test_build_jobs_fit_the_memory(setup_env, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(32)))
    pages = {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': 16_000_000_000 // 4096}
    monkeypatch.setattr(os, 'sysconf', pages.__getitem__)
    assert setup_env.build_jobs() == 8
