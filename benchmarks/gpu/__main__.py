"""Check kernels and models on a GPU, then measure operators and models, within a time budget.

Every part runs in a process of its own, so that a kernel that breaks the CUDA context breaks no
other part. What was measured is written as it comes, also when a part runs out of time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu import report
from benchmarks.gpu.records import LOG, Recorder

ROOT = Path(__file__).parents[2]
#: Part to the largest share of the remaining time that it may take.
PARTS = {
    'kernels': 0.4,
    'models': 0.35,
    'figures': 0.6,
    'networks': 0.6,
    'profile': 0.5,
    'compiled': 1.0,
    'tune': 0.6,
}
DEFAULT_PARTS = [part for part in PARTS if part != 'tune']
#: Seconds kept for writing the results.
RESERVE = 8
TESTS = {
    'kernels': ['tests/ops/triton', 'tests/ops/test_devices.py'],
    'models': ['tests/backbones/test_devices.py'],
}
#: What pytest's -k selects to try the script.
QUICK = {'kernels': 'test_precision and float32', 'models': 'quadtree_b0 and autocast'}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog='benchmarks.gpu', description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('gpu_check'), help='folder of the results')
    parser.add_argument('--budget', type=float, default=480, help='seconds for everything')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=DEFAULT_PARTS)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--quick', action='store_true', help='tiny problems, to try the script')
    parser.add_argument('--workers', type=int, help='processes of the tests')
    parser.add_argument('--only', default='', help="expression for pytest's -k")
    return parser.parse_args()


def main() -> int:
    """Run the parts, write the results; returns 1 if a part failed."""
    args = parse_args()
    end = time.monotonic() + args.budget - RESERVE
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / LOG
    log.unlink(missing_ok=True)
    recorder = Recorder(log)
    recorder.write('environment', **report.environment(args.device))
    failed = []
    for position, part in enumerate(args.parts):
        left = end - time.monotonic()
        limit = left if position == len(args.parts) - 1 else left * PARTS[part]
        if limit < 5:
            recorder.write('part', name=part, outcome='not run: no time left', seconds=0)
            continue
        outcome, seconds = run_part(part, args, limit)
        recorder.write('part', name=part, outcome=outcome, seconds=seconds)
        if outcome != 'done':
            failed.append(part)
    print(report.write(args.out))
    return int(bool(failed))


def run_part(part: str, args: argparse.Namespace, limit: float) -> tuple[str, float]:
    """Run a part in a process with a time limit; returns how it ended and after how long."""
    start = time.monotonic()
    environment = dict(os.environ, CUBLAS_WORKSPACE_CONFIG=':4096:8', MMEFFVIT_GPU_PART=part)
    if part in TESTS:
        environment['OMP_NUM_THREADS'] = str(max(1, (os.cpu_count() or 1) // workers(args)))
    with (args.out / f'{part}.log').open('w') as output:
        process = subprocess.Popen(
            command(part, args, limit),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            outcome = 'done' if code == 0 else f'exit code {code}'
        except subprocess.TimeoutExpired:
            outcome = f'stopped after {limit:.0f} s'
            os.killpg(process.pid, 9)
            process.wait()
    seconds = time.monotonic() - start
    print(f'{part}: {outcome}, {seconds:.0f} s', flush=True)
    return outcome, seconds


def workers(args: argparse.Namespace) -> int:
    """Processes of the tests: compiling kernels takes a core each."""
    return args.workers or max(1, min(12, (os.cpu_count() or 2) - 2))


def command(part: str, args: argparse.Namespace, limit: float) -> list[str]:
    """The command of a part."""
    log = (args.out / LOG).resolve()
    if part not in TESTS:
        quick = ['--quick'] if args.quick else []
        return [
            *(sys.executable, '-m', f'benchmarks.gpu.{part}', '--device', args.device),
            *('--log', str(log), '--seconds', f'{limit - 3:.0f}', *quick),
        ]  # fmt: skip
    chosen = args.only or (QUICK[part] if args.quick else '')
    return [
        *(sys.executable, '-m', 'pytest', *TESTS[part], '-p', 'benchmarks.gpu.pytest_plugin'),
        *('--check-log', str(log), '-p', 'no:cacheprovider', '--tb=short', '-rfE'),
        *('-n', str(workers(args)), '--dist', 'worksteal'),
        *(['-k', chosen] if chosen else []),
    ]  # fmt: skip


if __name__ == '__main__':
    sys.exit(main())
