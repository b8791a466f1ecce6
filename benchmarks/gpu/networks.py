"""Throughput and memory of models on a GPU, the most wanted first."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import models
from benchmarks.gpu.records import Recorder, part_parser

#: Models that are timed in turn, so that their ratios are of one run; the most wanted first.
GROUPS = (
    ('quadtree_b2', 'pvtv2_b2'),
    ('slide_swin_t', 'swin_t'),
    ('skipat_s', 'vit_s'),
    ('quadtree_b1', 'lookupvit_b', 'dualtoken_s'),
    ('uformer_t',),
)
QUICK_GROUPS = (('quadtree_b0', 'pvtv2_b0'),)
#: Images in a batch, and side: large enough that a GPU, not Python, is measured.
BATCH, SIDE, ROUNDS = 128, 224, 5
#: Seconds that a group may take.
GROUP_SECONDS = 8


def parse_args(description: str) -> argparse.Namespace:
    """Parse the options of a part."""
    parser = part_parser(description)
    parser.add_argument('--group', type=int, help='measure this group only')
    parser.add_argument('--measure', choices=models.MEASURES)
    parser.add_argument('--meeting', type=Path, help='folder in which processes meet')
    return parser.parse_args()


def main() -> None:
    """Measure group by group, eager and as CUDA graphs, until the time is used."""
    args = parse_args(__doc__)
    end = time.monotonic() + args.seconds
    recorder = Recorder(args.log)
    groups = QUICK_GROUPS if args.quick else GROUPS
    first, others = groups[:2], groups[2:]
    wanted = [(measure, group) for group in first for measure in models.MEASURES]
    wanted += [(measure, group) for measure in models.MEASURES for group in others]
    for measure, group in wanted:
        if time.monotonic() + GROUP_SECONDS > end:
            shared = dict(model=group[0], mode='eager', measure=measure)
            recorder.write('network', **shared, failure='no time left')
            continue
        # A graph tells what the GPU takes from what launching its kernels takes.
        graph = measure == 'latency' and args.device.startswith('cuda')
        modes = ('eager', 'graph') if graph else ('eager',)
        measure_group(group, measure, args, recorder, modes=modes)


def measure_group(
    names: Sequence[str],
    measure: str,
    args: argparse.Namespace,
    recorder: Recorder,
    *,
    modes: Sequence[str] = ('eager',),
    batch: int = BATCH,
    before_timing: Callable[[], object] = lambda: None,
) -> None:
    """Measure models in turn; what fails is recorded."""
    start = time.monotonic()

    def ready() -> None:
        progress('ready to be timed')
        before_timing()

    def progress(event: str) -> None:
        print(f'{measure}, {", ".join(names)}: {event} after {time.monotonic() - start:.1f} s',
              flush=True)  # fmt: skip

    try:
        found = models.benchmark(
            names,
            sizes=[(32, 32) if args.quick else (SIDE, SIDE)],
            batches=[1 if args.quick else batch],
            dtypes=['bfloat16'],
            devices=[args.device],
            modes=modes,
            measures=[measure],
            rounds=2 if args.quick else ROUNDS,
            wall=True,
            before_timing=ready,
        ).records
    except Exception as error:  # what fails leaves the other groups
        failure = f'{type(error).__name__}: {error}'[:600]
        found = [dict(model=', '.join(names), mode=modes[-1], measure=measure, failure=failure)]
    if args.device.startswith('cuda'):
        torch.cuda.empty_cache()
    seconds = round(time.monotonic() - start, 1)
    progress('done')
    for record in found:
        recorder.write('network', **record, group_seconds=seconds)


if __name__ == '__main__':
    main()
