#!/usr/bin/env python
"""Evaluate one LookupViT checkpoint at several numbers of compressed tokens and draw the curve.

tools/analysis_tools/elastic_eval.py configs/lookupvit_ti_shapes.py epoch_10.pth --out curve.png
"""

import argparse
from pathlib import Path

import torch
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import LookupViT
from mmeffvit.checkpoints import load_weights, partial_allowed
from mmeffvit.checkpoints.index import resolve
from mmeffvit.cli.data_paths import check_data, check_loaders
from mmeffvit.cli.errors import UserError, add_allow_partial, run_cli, user_input
from mmeffvit.cli.launch import (
    add_common_arguments,
    build_runner,
    load_config,
    process_group,
)
from mmeffvit.cli.options import Parser, output_file, positive
from mmeffvit.models import build_model
from mmeffvit.utils.atomic import atomic, write_json
from mmeffvit.utils.config import activate_scope


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help='its weights: a file, a URL, mmeffvit://NAME, or published'
    )
    add_allow_partial(parser)
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=_size,
        default=[(3, 3), (5, 5), (7, 7), (10, 10)],
        metavar='SIZE',
        help='compressed grids: 5 for 5x5, or 4x7 (default: 3 5 7 10)',
    )
    parser.add_argument('--metric', help='metric of the curve; by default the first')
    parser.add_argument(
        '--out', type=output_file, help='draw the curve into this .png, .svg or .pdf file'
    )
    parser.add_argument('--json', type=output_file, help='write the figures into this file')
    add_common_arguments(parser)
    return parser.parse_args()


def _size(text: str) -> tuple[int, ...]:
    parts = text.split('x')
    sides = [positive(side) for side in parts if side]
    if len(sides) < len(parts) or len(sides) > 2:
        raise argparse.ArgumentTypeError(f'{text} must be a side, such as 5, or two, such as 4x7')
    return tuple(sides * 2 if len(sides) == 1 else sides)


def main() -> None:
    """Evaluate, print, draw."""
    args = parse_args()
    with user_input():
        cfg = load_config(args)
        activate_scope(cfg)
        check_loaders(cfg, ('test_dataloader',))
        checkpoint = resolve(args.checkpoint, args.config)
        loaded = load_weights(build_model(cfg), checkpoint, args.allow_partial)
        cfg.load_from = checkpoint
        check_data(cfg, ('test_dataloader',))
    with process_group(cfg), partial_allowed(args.allow_partial):
        runner = build_runner(cfg, [f'{loaded}.'])
        backbone = getattr(runner.model, 'module', runner.model).backbone
        if not isinstance(backbone, LookupViT):
            raise UserError(
                f'The backbone of {args.config} is {type(backbone).__name__}; '
                'only LookupViT has a number of compressed tokens.'
            )
        records = []
        for size in args.sizes:
            records.append(_evaluate(runner, backbone, size))
            metrics = records[0]['metrics']
            metric = args.metric or next(iter(metrics))
            if metric not in metrics:  # said before the other sizes are evaluated
                raise UserError(f'--metric {metric} is not one of {", ".join(metrics)}.')
    _print(records, metric)
    if args.json:
        write_json(args.json, records, indent=1)
    if args.out:
        _draw(records, metric, args.out)


def _evaluate(runner: Runner, backbone: LookupViT, size: tuple[int, ...]) -> dict:
    """Metrics and multiply-adds of the backbone at one size, without touching weights."""
    backbone.set_compressed_size(size)
    metrics = {key: float(value) for key, value in runner.test().items()}
    macs = count_complexity(backbone, _input_shape(runner)).macs
    return dict(size=size, macs=macs, metrics=metrics)


def _input_shape(runner: Runner) -> tuple[int, ...]:
    """Shape of the first test image as the backbone sees it."""
    batch = next(iter(runner.test_dataloader))
    model = getattr(runner.model, 'module', runner.model)
    inputs = model.data_preprocessor(batch, training=False)['inputs']
    inputs = inputs if isinstance(inputs, torch.Tensor) else torch.stack(inputs)
    return (1, *inputs.shape[1:])


def _print(records: list[dict], metric: str) -> None:
    table = Table('compressed grid', 'GMAC of the backbone', metric)
    for record in records:
        grid = 'x'.join(map(str, record['size']))
        table.add_row(grid, f'{record["macs"] / 1e9:.3f}', f'{record["metrics"][metric]:.2f}')
    Console().print(table)


def _draw(records: list[dict], metric: str, path: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout='constrained')
    macs = [record['macs'] / 1e9 for record in records]
    values = [record['metrics'][metric] for record in records]
    axes.plot(macs, values, marker='o')
    for x, y, record in zip(macs, values, records):
        grid = '×'.join(map(str, record['size']))
        axes.annotate(grid, (x, y), textcoords='offset points', xytext=(4, -10))
    axes.set_xlabel('multiply-adds of the backbone (G)')
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    with atomic(path) as partial:
        figure.savefig(partial, dpi=150)


if __name__ == '__main__':
    run_cli(main)
