"""Compiled models against the same models eager.

Compiling takes a minute of one core and more for each model, so every group has a process of its
own. They wait for each other until all are compiled, and are then timed one after the other.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace

import torch

from benchmarks.gpu.networks import BATCH, QUICK_GROUPS, measure_group, parse_args
from benchmarks.gpu.records import Recorder
from benchmarks.models import MEASURES

#: The most wanted models, each compiled by a process.
GROUPS = (('quadtree_b2',), ('pvtv2_b2',), ('slide_swin_t',), ('vit_s',))
#: All groups share the memory while they train.
TRAINING_BATCH = 32
#: Seconds that timing all groups takes.
TIMING_SECONDS = 12


def main() -> None:
    """Compile and measure all groups, first for inference and then for training."""
    args = parse_args(__doc__)
    end = time.monotonic() + args.seconds
    if args.group is not None:
        measure_one(args, end)
        return
    for measure in MEASURES:
        seconds = end - time.monotonic()
        if seconds > 2 * TIMING_SECONDS:
            measure_all(measure, seconds, args)


def measure_all(measure: str, seconds: float, args: Namespace) -> None:
    """Start a process for each group; what has no result in time is ended."""
    end = time.monotonic() + seconds
    count = len(QUICK_GROUPS if args.quick else GROUPS)
    threads = str(max(1, (os.cpu_count() or 1) // count))
    environment = dict(os.environ, TORCHINDUCTOR_COMPILE_THREADS=threads, OMP_NUM_THREADS=threads)
    with tempfile.TemporaryDirectory() as meeting:
        command = [sys.executable, '-m', 'benchmarks.gpu.compiled', '--device', args.device]
        command += ['--log', str(args.log), '--seconds', f'{seconds - 2:.0f}', '--measure', measure]
        command += ['--meeting', meeting, *(['--quick'] if args.quick else [])]
        processes = [
            subprocess.Popen([*command, '--group', str(group)], env=environment)
            for group in range(count)
        ]
        for process in processes:
            try:
                process.wait(max(1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure_one(args: Namespace, end: float) -> None:
    """Compile one group, wait for the others, measure."""
    groups = QUICK_GROUPS if args.quick else GROUPS
    lock = (args.meeting / 'lock').open('w')
    arrived = args.meeting / f'{args.group}.ready'

    def wait_for_turn() -> None:
        if args.device.startswith('cuda'):
            torch.cuda.empty_cache()
        arrived.touch()
        while len(list(args.meeting.glob('*.ready'))) < len(groups):
            if time.monotonic() > end - TIMING_SECONDS:
                break
            time.sleep(0.2)
        fcntl.flock(lock, fcntl.LOCK_EX)

    try:
        measure_group(
            groups[args.group],
            args.measure,
            args,
            Recorder(args.log),
            modes=('eager', 'compiled'),
            batch=BATCH if args.measure == 'latency' else TRAINING_BATCH,
            before_timing=wait_for_turn,
        )
    finally:
        arrived.touch()
        lock.close()


if __name__ == '__main__':
    main()
