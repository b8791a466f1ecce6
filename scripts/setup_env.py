"""Create ``.venv`` with the pinned stack, or do nothing when it is already there.

Run by ``make``, through setup_env.sh. Only the standard library is used. What the commands print
goes to .setup/install.log; the console gets one line per step, with the time.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
STAMP = VENV / 'mmeffvit-setup.json'
LOG = ROOT / '.setup' / 'install.log'

#: Free disk space in GB for a new environment, and for what pip unpacks on the way.
VENV_GB, TEMP_GB = 7, 3
#: Seconds between two signs of life on a console that cannot rewrite its line.
HEARTBEAT = 20

REQUIREMENTS = ROOT / 'requirements'
PIP = [str(PYTHON), '-m', 'pip', 'install', '--progress-bar=off']
PIP += ['-c', str(REQUIREMENTS / 'constraints.txt')]
#: mmcv is built against the installed torch; -v makes the compiler's progress readable.
MMCV = [*PIP, '-v', '--no-build-isolation', 'onedl-mmcv']
REINSTALL = ['--force-reinstall', '--no-deps']

#: Small programs for the new environment; the last line they print is the answer.
ASK_OBSTACLE = """
import runpy
print(runpy.run_path('mmeffvit/utils/device.py')['cuda_build_obstacle']() or '')
"""
ASK_OPERATORS = """
import runpy, torch
try:
    import mmcv._ext
except ImportError as error:
    print('none', error)
else:
    cuda = runpy.run_path('mmeffvit/utils/device.py')['mmcv_has_cuda']()
    print('CUDA' if cuda else 'CPU')
"""
ASK_OPENCV = """
try:
    import cv2
except ImportError as error:
    print(error)
"""
CHECK_ALL = 'import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, mmeffvit.registry'

#: What a failed command prints -> what is the matter, in the user's words.
FAILURES = {
    'No space left on device': 'the disk is full',
    'Killed signal terminated program': 'too little memory for the compiler; try MAX_JOBS=1',
    'Failed to establish a new connection': 'the Python package index cannot be reached',
    'Temporary failure in name resolution': 'the Python package index cannot be reached',
    'Read timed out': 'the Python package index does not answer in time',
}


class SetupError(Exception):
    """One line that says what is missing or what went wrong."""


def main() -> int:
    """Set the environment up; return the exit code."""
    try:
        if not is_ready():
            check_prerequisites()
            install()
    except SetupError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ninterrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


# -- What is there already ----------------------------------------------------------------------


def is_ready() -> bool:
    """Whether the environment was completed from these very files, on this machine."""
    try:
        return json.loads(STAMP.read_text())['key'] == stamp_key() and PYTHON.exists()
    except (OSError, ValueError, KeyError):
        return False


def stamp_key() -> str:
    """Hash what the environment depends on: the set-up files, Python, the place, the GPU."""
    digest = hashlib.sha256()
    files = [*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py', Path(__file__)]
    for path in files:
        digest.update(path.read_bytes())
    nvcc = [shutil.which('nvcc'), Path('/usr/local/cuda/bin/nvcc').exists()]
    facts = [sys.version_info[:3], str(ROOT), Path('/dev/nvidia0').exists(), nvcc]
    digest.update(repr(facts).encode())
    return digest.hexdigest()


# -- Prerequisites ------------------------------------------------------------------------------


def check_prerequisites() -> None:
    """Raise one line that names everything that has to be installed by hand first."""
    if not sys.platform.startswith('linux'):
        raise SetupError(f'Linux is needed, this is {sys.platform}')
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        raise SetupError(f'Python 3.10 to 3.12 is needed, this is {sys.version.split()[0]}')
    missing = [*missing_commands(), *missing_python_parts()]
    if missing:
        names = ', '.join(name for name, _ in missing)
        packages = ' '.join(dict.fromkeys(package for _, package in missing))
        raise SetupError(f'{names} is missing (on Debian and Ubuntu: apt-get install {packages})')
    check_compiler()
    check_disk()


def missing_commands() -> list[tuple[str, str]]:
    """List (command, Debian package) of the commands that are not on the path."""
    missing = [(name, name) for name in ('git', 'make') if not shutil.which(name)]
    if compiler() is None:
        missing.append(('a C++ compiler (c++ or g++)', 'g++'))
    return missing


def missing_python_parts() -> list[tuple[str, str]]:
    """List (part, Debian package) of what distributions split off from Python."""
    version = '{}.{}'.format(*sys.version_info)
    missing = []
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        missing.append((f'the header Python.h of Python {version}', f'python{version}-dev'))
    if find_spec('venv') is None or find_spec('ensurepip') is None:
        missing.append((f'the module venv of Python {version}', f'python{version}-venv'))
    return missing


def compiler() -> str | None:
    """Find the C++ compiler that torch's extension builder would use, or one like it."""
    return next(filter(shutil.which, (os.environ.get('CXX', ''), 'c++', 'g++')), None)


def check_compiler() -> None:
    """Raise if the compiler is there, but cannot compile C++17 against Python."""
    result = subprocess.run(
        [compiler(), '-std=c++17', '-fsyntax-only', '-x', 'c++', '-']
        + [f'-I{sysconfig.get_path("include")}'],
        input='#include <Python.h>\n#include <vector>\n',
        capture_output=True,
        text=True,
    )
    if result.returncode:
        reason = next((line for line in result.stderr.splitlines() if 'error' in line), '')
        raise SetupError(f'the C++ compiler {compiler()} does not compile C++17: {reason}')


def check_disk() -> None:
    """Raise if the file systems of the environment or of temporary files are too full."""
    temp = Path(tempfile.gettempdir())
    wanted = {ROOT: 1 if any(VENV.glob('lib/python3*/site-packages/torch')) else VENV_GB}
    if temp.stat().st_dev == ROOT.stat().st_dev:
        wanted[ROOT] += TEMP_GB
    else:
        wanted[temp] = TEMP_GB
    for path, gigabytes in wanted.items():
        free = shutil.disk_usage(path).free / 1e9
        if free < gigabytes:
            raise SetupError(
                f'disk space is missing: {path} has {free:.1f} GB free, {gigabytes} GB are needed'
            )


# -- Installation -------------------------------------------------------------------------------


def install() -> None:
    """Run the steps; each one is quick if it was done before."""
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text('')
    STAMP.unlink(missing_ok=True)
    started = time.monotonic()
    print(f'Setting up {VENV} (log: {LOG.relative_to(ROOT)})', flush=True)
    console = Console(steps=6)
    with console.step('create .venv'):
        create_venv(console)
    with console.step('pip and build tools'):
        console.run([*PIP, '--upgrade', '-r', str(REQUIREMENTS / 'build.txt')])
    with console.step('torch (about 3 GB to download)'):
        console.run([*PIP, 'torch', 'torchvision'])
    with console.step('mmcv'):
        install_mmcv(console)
    with console.step('mmdet, mmseg, mmpretrain'):
        extras = ('runtime', 'det', 'seg', 'cls', 'denoise', 'match', 'tests')
        files = [part for name in extras for part in ('-r', str(REQUIREMENTS / f'{name}.txt'))]
        console.run([*PIP, *files])
    with console.step('mmeffvit, and whether everything imports'):
        console.run([*PIP, '--no-deps', '--no-build-isolation', '-e', str(ROOT)])
        console.run([str(PYTHON), '-c', CHECK_ALL])
    STAMP.write_text(json.dumps({'key': stamp_key()}))
    print(f'Ready after {clock(time.monotonic() - started)}.', flush=True)


def create_venv(console: 'Console') -> None:
    """Create the environment, unless a whole one of this Python is there."""
    mine = '{}.{}'.format(*sys.version_info)
    try:
        theirs = ask('import pip, sys; print("{}.{}".format(*sys.version_info))')
    except (OSError, SetupError):  # absent, or left half-made by an interruption
        console.run([sys.executable, '-m', 'venv', '--clear', str(VENV)])
        return
    if theirs != mine:
        raise SetupError(f'.venv is of Python {theirs}, not {mine}: remove it first (rm -r .venv)')


def install_mmcv(console: 'Console') -> None:
    """Install mmcv with operators that fit this machine and this torch.

    pip caches the wheel it built only by mmcv's version, so the operators of another torch, or
    without CUDA, may come back from there: they are checked, and built again if need be.
    """
    obstacle = ask(ASK_OBSTACLE)
    kind = 'CPU' if obstacle else 'CUDA'
    environment = {'MMCV_WITH_OPS': '1', 'FORCE_CUDA': str(int(kind == 'CUDA'))}
    environment['CXX'] = compiler()
    environment['MAX_JOBS'] = os.environ.get('MAX_JOBS', str(build_jobs()))
    if kind == 'CPU':
        # With a GPU in sight, mmcv's build would ask for nvcc.
        environment['CUDA_VISIBLE_DEVICES'] = ''
    console.say(f'{kind} operators, as {obstacle or "there are a GPU and its nvcc"}')
    console.say('compiling them takes 8 minutes or so on 2 cores; pip keeps them for the next time')
    console.run(MMCV, environment)
    if ask(ASK_OPENCV):
        # The usual OpenCV needs libGL, which machines without a screen do not have.
        console.run([*PIP, *REINSTALL, 'opencv-python-headless'])
    if not operators_fit(kind):
        console.say('the build that pip had cached does not fit; compiling anew')
        console.run([*MMCV, *REINSTALL, '--no-cache-dir'], environment)
        if not operators_fit(kind):
            raise SetupError(f"mmcv's operators do not load: {ask(ASK_OPERATORS)}")


def operators_fit(kind: str) -> bool:
    """Whether mmcv's operators load; those for CUDA also run on a CPU."""
    return ask(ASK_OPERATORS) in (kind, 'CUDA')


def build_jobs() -> int:
    """Count compiler processes: one per core, if each has 2 GB of memory."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2e9
    return max(1, min(len(os.sched_getaffinity(0)), int(memory)))


def ask(program: str) -> str:
    """Run a small program in the environment and return the last line it prints."""
    result = subprocess.run(
        [str(PYTHON), '-c', program],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    if result.returncode:
        with LOG.open('a') as log:
            log.write(result.stderr)
        raise SetupError(diagnose(result.stderr))
    return (result.stdout.splitlines() or [''])[-1].strip()


def clean_environment() -> dict[str, str]:
    """Copy the environment without what would make pip or Python look elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    environment.update(PYTHONNOUSERSITE='1', PIP_USER='0', PIP_NO_INPUT='1')
    environment['PIP_DISABLE_PIP_VERSION_CHECK'] = '1'
    return environment


# -- Console and log ----------------------------------------------------------------------------


class Console:
    """One line per step; commands write to the log.

    Args:
        steps (int): How many steps there will be.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.number, self.started = steps, 0, time.monotonic()
        self.live = sys.stdout.isatty()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Number and time a step."""
        self.number += 1
        self.started = time.monotonic()
        print(f'[{self.number}/{self.steps}] {title}', flush=True)
        yield
        self.say(f'done in {clock(time.monotonic() - self.started)}')

    def say(self, text: str) -> None:
        """Print a line that belongs to the step."""
        print(f'{self._erase()}      {text}', flush=True)

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Run a command into the log, with signs of life on the console.

        Raises:
            SetupError: With the reason found in what the failed command printed.
        """
        with LOG.open('a+') as log:
            log.write(f'$ {shlex.join(command)}\n')
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=clean_environment() | (environment or {}),
            )
            since = time.monotonic()
            while process.poll() is None:
                try:
                    process.wait(timeout=1 if self.live else HEARTBEAT)
                except subprocess.TimeoutExpired:
                    self._pulse(read_from(start), time.monotonic() - since)
            print(self._erase(), end='', flush=True)
            if process.returncode:
                reason = diagnose(read_from(start), process.returncode)
                raise SetupError(f'{reason} (log: {LOG})')

    def _pulse(self, output: str, seconds: float) -> None:
        line = f'      {clock(time.monotonic() - self.started)}  {progress(output, seconds)}'
        print(self._erase() + line[:99], end='' if self.live else '\n', flush=True)

    def _erase(self) -> str:
        return '\r\x1b[K' if self.live else ''


def read_from(start: int) -> str:
    """Read the log from a position on."""
    with LOG.open(errors='replace') as log:
        log.seek(start)
        return log.read()


def progress(output: str, seconds: float) -> str:
    """Say in some words what pip is at, and how long the compiler will still take."""
    compiled = re.findall(r'^\s*\[(\d+)/(\d+)\] ', output, re.MULTILINE)
    if compiled:
        done, total = map(int, compiled[-1])
        remaining = f', about {clock(seconds * (total - done) / done)} to go' if done > 2 else ''
        return f'compiled {done} of {total} files{remaining}'
    words = re.findall(
        r'^\s*((?:Collecting|Downloading|Building|Installing).*)', output, re.MULTILINE
    )
    return words[-1] if words else ''


def diagnose(output: str, code: int = 1) -> str:
    """Find the reason of a failure in what a command printed and in its exit code."""
    for sign, reason in FAILURES.items():
        if sign in output:
            return reason
    if code < 0:
        return f'{signal.Signals(-code).name} ended a command; was memory short?'
    lines = [line.strip() for line in output.splitlines() if 'error' in line.lower()]
    return lines[-1][:200] if lines else 'a command failed without a message'


def clock(seconds: float) -> str:
    """Format a duration as minutes and seconds."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


if __name__ == '__main__':
    sys.exit(main())
