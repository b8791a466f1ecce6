"""Where models spend their time on a GPU: kernels by time, and how much of the time is waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import models
from benchmarks.gpu.networks import BATCH, SIDE, parse_args
from benchmarks.gpu.records import Recorder

#: Models with measures, the most wanted first.
PROFILED = (('quadtree_b2', 'latency'), ('quadtree_b2', 'training'), ('dualtoken_s', 'latency'))
QUICK_PROFILED = (('quadtree_b0', 'latency'),)
LARGEST, CALLS = 25, 2


def main() -> None:
    """Profile model after model."""
    args = parse_args(__doc__)
    end = time.monotonic() + args.seconds
    recorder = Recorder(args.log)
    batch, side = (1, 32) if args.quick else (BATCH, SIDE)
    for name, measure in QUICK_PROFILED if args.quick else PROFILED:
        label = dict(model=name, measure=measure)
        if time.monotonic() > end:
            recorder.write('profile', **label, failure='no time left')
            continue
        model = models.find(name).to(args.device).train(measure == 'training')
        x = torch.rand(batch, 3, side, side, device=args.device)
        setting = models.Setting(args.device, 'bfloat16', measure, tuple(x.shape))
        run = models.make_run(model, 'eager', setting, x)
        found = kernels(run, args.device)
        recorder.write('profile', **label, **found)
        print(label, found, flush=True)


def kernels(run: Callable[[], object], device: str) -> dict:
    """Time of a call, of its kernels in sum and of the largest, and how many there are.

    Returns:
        dict: ``seconds`` of a call; ``busy``, the sum of the kernels' times; ``launches``;
        ``kernels``, of those that take longest name, seconds and launches per call.
    """
    on_gpu = device.startswith('cuda')

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    for _ in range(3):
        run()
    wait()
    start = time.perf_counter()
    for _ in range(CALLS):
        run()
    wait()
    seconds = (time.perf_counter() - start) / CALLS
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiled:
        for _ in range(CALLS):
            run()
        wait()
    events = [
        (e.key, (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1e6 / CALLS,
         e.count / CALLS)
        for e in profiled.key_averages()
    ]  # fmt: skip
    events = sorted((e for e in events if e[1]), key=lambda e: -e[1])
    return dict(
        seconds=seconds,
        busy=sum(e[1] for e in events),
        launches=sum(e[2] for e in events),
        kernels=[dict(name=e[0][:160], seconds=e[1], launches=e[2]) for e in events[:LARGEST]],
    )


if __name__ == '__main__':
    main()
