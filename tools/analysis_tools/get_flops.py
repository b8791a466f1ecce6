#!/usr/bin/env python
"""Count parameters and multiply-adds of a model of any task at any size, attention included.

    tools/analysis_tools/get_flops.py configs/retinanet_quadtree_b2_coco.py --shape 800 1280
    tools/analysis_tools/get_flops.py quadtree_b2 --depth 3

mmeffvit.analysis documents what is counted: count_complexity, test_time_forward.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from mmeffvit.analysis import count_model
from mmeffvit.cli.errors import UserError, run_cli, user_input
from mmeffvit.cli.options import Parser, positive
from mmeffvit.models import find_model


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('model', help='a config file, or a name of mmeffvit.list_models()')
    parser.add_argument('--shape', type=positive, nargs='+', help='H W, or T H W for video')
    parser.add_argument('--depth', type=positive, default=2, help='levels of the module table')
    return parser.parse_args()


def main() -> None:
    """Count and print."""
    args = parse_args()
    if args.shape and (len(args.shape) not in (2, 3) or min(args.shape) < 1):
        raise UserError(f'--shape {args.shape} must be H W or T H W, in pixels.')
    with user_input():
        found = count_model(find_model(args.model), args.shape)
    table = Table('module', 'multiply-adds (G)', 'share')
    for name, macs in found.by_module.items():
        if name.count('.') < args.depth:
            table.add_row(name, f'{macs / 1e9:.3f}', f'{100 * macs / max(1, found.macs):.1f}%')
    table.add_section()
    attention = f'{100 * found.attention_macs / max(1, found.macs):.1f}%'
    table.add_row('products of attention', f'{found.attention_macs / 1e9:.3f}', attention)
    table.add_row('total', f'{found.macs / 1e9:.3f}', f'{found.params / 1e6:.3f} M parameters')
    Console().print(table)


if __name__ == '__main__':
    run_cli(main)
