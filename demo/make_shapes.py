#!/usr/bin/env python
"""Write the shapes dataset: boxes, polygons, label maps, patterns, clean/noisy pairs and clips."""

import argparse
import os
from dataclasses import fields

from rich.progress import track

from mmeffvit.cli.errors import run_cli, user_input
from mmeffvit.cli.options import Parser, natural, output_folder, positive, seed
from shapes import TASKS, ShapesConfig, make_shapes


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    default = ShapesConfig()
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('out', type=output_folder, help='folder that receives one folder per task')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, default=TASKS, metavar='TASK')
    parser.add_argument('--num-train', type=natural, default=default.num_train)
    parser.add_argument('--num-val', type=natural, default=default.num_val)
    parser.add_argument('--num-train-clips', type=natural, default=default.num_train_clips)
    parser.add_argument('--num-val-clips', type=natural, default=default.num_val_clips)
    parser.add_argument('--num-frames', type=positive, default=default.num_frames)
    parser.add_argument(
        '--size-range',
        type=positive,
        nargs=2,
        default=default.size_range,
        metavar=('MIN', 'MAX'),
        help='height and width in pixels; multiples of 32 are left out',
    )
    parser.add_argument('--max-objects', type=positive, default=default.max_objects)
    parser.add_argument(
        '--sigma', type=float, default=default.sigma, help='noise in grey levels of 255'
    )
    parser.add_argument('--seed', type=seed, default=default.seed)
    parser.add_argument('--workers', type=positive, default=os.cpu_count(), help='processes')
    parser.add_argument('--force', action='store_true', help='replace what other arguments made')
    return parser.parse_args()


def main() -> None:
    """Write the tasks that are missing and say where they are."""
    args = parse_args()
    with user_input():
        options = {f.name: getattr(args, f.name) for f in fields(ShapesConfig)}
        config = ShapesConfig(**{**options, 'size_range': tuple(args.size_range)})
        written = make_shapes(args.out, config, args.tasks, args.workers, args.force, track)
    for task, is_new in written.items():
        print(f'{os.path.join(args.out, task)}: {"written" if is_new else "complete, kept"}')


if __name__ == '__main__':
    run_cli(main)
