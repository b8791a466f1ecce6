"""Throughput and memory of models on a GPU: eager before compiled, the most wanted first."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks import models
from benchmarks.gpu.records import Recorder

#: Models that are timed in turn, so that their ratios are of one run; the most wanted first.
GROUPS = (
    ('quadtree_b2', 'pvtv2_b2'),
    ('slide_swin_tiny', 'swin_tiny'),
    ('skipat_small', 'vit_small'),
    ('quadtree_b1', 'lookupvit_base', 'dualtoken_small'),
    ('uformer_t',),
)
#: Images in a batch, and side: large enough that a GPU, not Python, is measured.
BATCH, SIDE, ROUNDS = 128, 224, 5


def main() -> None:
    """Measure group by group until the time is used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--log', type=Path, required=True)
    parser.add_argument('--seconds', type=float, required=True)
    parser.add_argument('--quick', action='store_true')
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    recorder = Recorder(args.log)
    groups, batch, side = GROUPS, BATCH, SIDE
    if args.quick:
        groups, batch, side = (('quadtree_b0', 'pvtv2_b0'),), 1, 32
    for mode in ('eager',) if args.quick else ('eager', 'compiled'):
        for measure in models.MEASURES:
            for group in groups:
                left = end - time.monotonic()
                # Compiling a group takes a minute or more, and is lost if it is cut off.
                if left < (20 if mode == 'eager' else 60) and not args.quick:
                    recorder.write('network', model=group[0], mode=mode, measure=measure,
                                   failure='no time left')  # fmt: skip
                    continue
                names = group if mode == 'eager' else group[:2]
                run_group(names, mode, measure, batch, side, args.device, recorder)


def run_group(names, mode, measure, batch, side, device, recorder) -> None:
    """Measure models in turn; what fails is recorded."""
    start = time.monotonic()
    try:
        found = models.benchmark(
            names,
            sizes=[(side, side)],
            batches=[batch],
            dtypes=['bfloat16'],
            devices=[device],
            modes=('eager', 'compiled') if mode == 'compiled' else (mode,),
            measures=[measure],
            rounds=ROUNDS,
            wall=True,
        )
    except Exception as error:  # what fails leaves the other groups
        recorder.write('network', model=', '.join(names), mode=mode, measure=measure,
                       failure=f'{type(error).__name__}: {error}'[:600])  # fmt: skip
        return
    finally:
        if device.startswith('cuda'):
            torch.cuda.empty_cache()
    seconds = round(time.monotonic() - start, 1)
    for record in found.records:
        recorder.write('network', **record, group_seconds=seconds)


if __name__ == '__main__':
    main()
