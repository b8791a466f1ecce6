#!/usr/bin/env python
"""Train, evaluate and show a QuadTree detector on the shapes dataset, in minutes on a CPU.

Results of an earlier run are reused: its data, the checkpoints of an interrupted training, the
predictions of a finished one.
"""

import argparse
import json
import math
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)
from rich.table import Table

from mmeffvit.cli.errors import UserError, run_cli, user_input
from mmeffvit.cli.options import Parser, output_folder, seed
from mmeffvit.utils.device import choose_device
from prediction_grid import save_prediction_grid
from shapes import CLASSES, PALETTE, ShapesConfig, make_shapes
from training_curves import plot_training, read_scalars

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
CONFIG = ROOT / 'configs' / 'retinanet_quadtree_b0_shapes.py'
METRICS = {
    'coco/bbox_mAP_50': 'AP50',
    'coco/bbox_mAP_75': 'AP75',
    'coco/bbox_mAP': 'AP (0.50:0.95)',
    'coco/bbox_mAP_s': 'AP, smaller than 32²',
    'coco/bbox_mAP_m': 'AP, 32² to 96²',
}
SHOWN = 24

# Keeps freed memory in the process: training allocates the same sizes again and again.
MALLOC = ':'.join(
    f'glibc.malloc.{name}={value}'
    for name, value in dict(
        mmap_threshold=2**34, trim_threshold=2**34, top_pad=2**28, hugetlb=1
    ).items()
)

console = Console(highlight=False)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__.partition('\n')[0])
    parser.add_argument('--seed', type=seed, default=0, help='seed of the training (default: 0)')
    parser.add_argument('--data', default='data/shapes', help='default: %(default)s')
    parser.add_argument('--work-dir', type=output_folder, help='default: work_dirs/demo_seed<SEED>')
    return parser.parse_args()


def make_environment(device: str) -> dict[str, str]:
    """Environment of the training and test processes."""
    environment = {**os.environ}
    environment.setdefault('GLIBC_TUNABLES', MALLOC)
    if device == 'cpu':
        environment['CUDA_VISIBLE_DEVICES'] = ''
    return environment


def run_logged(command: list, environment: dict, log: Path, watch) -> None:
    """Run a command with its output in ``log``, calling ``watch`` twice a second.

    Raises:
        UserError: If it fails; the end of the log is printed.
    """
    with log.open('a') as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], env=environment, stdout=file, stderr=file
        )
        try:
            while process.poll() is None:
                watch()
                time.sleep(0.5)
            watch()
        finally:
            process.kill()
    if process.returncode:
        console.print(''.join(log.read_text().splitlines(keepends=True)[-20:]), markup=False)
        raise UserError(f'{Path(command[0]).name} failed; its log is {log}.')


def train(work_dir: Path, data: Path, seed: int, environment: dict) -> Path:
    """Train, or finish an interrupted training; returns the last checkpoint."""
    cfg = Config.fromfile(CONFIG)
    epochs = cfg.train_cfg.max_epochs
    checkpoint = work_dir / f'epoch_{epochs}.pth'
    if checkpoint.is_file():
        console.print(f'training: finished before, {checkpoint} is kept')
        return checkpoint
    annotations = json.loads((data / 'annotations/instances_train.json').read_text())
    steps = epochs * math.ceil(len(annotations['images']) / cfg.train_dataloader.batch_size)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('elapsed,'),
        TimeRemainingColumn(),
        TextColumn('left'),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task('training', total=steps)
        spoken = 0

        def watch() -> None:
            nonlocal spoken
            records = read_scalars(work_dir)
            done = max((r['step'] for r in records if 'loss' in r), default=0)
            if not done:
                return
            loss = next(r['loss'] for r in reversed(records) if 'loss' in r)
            ap = next((r[next(iter(METRICS))] for r in reversed(records) if 'loss' not in r), None)
            state = f'training, loss {loss:.2f}' + (f', AP50 {ap:.2f}' if ap is not None else '')
            progress.update(task, completed=done, description=state)
            if not console.is_terminal and done >= spoken + steps // 20:
                spoken = done
                left = progress.tasks[0].time_remaining
                console.print(f'{state}: step {done}/{steps}, {left or 0:.0f} s left')

        options = ['--data-root', data, '--work-dir', work_dir, '--seed', seed, '--resume']
        run_logged(
            [TOOLS / 'train.py', CONFIG, *options], environment, work_dir / 'train.log', watch
        )
        progress.update(task, completed=steps)
    return checkpoint


def test(work_dir: Path, data: Path, checkpoint: Path, environment: dict) -> tuple[dict, list]:
    """Evaluate a checkpoint, or read what an earlier evaluation left."""
    folder = work_dir / 'test'
    predictions = folder / 'predictions.pkl'
    metrics = folder / 'metrics.json'
    if not metrics.is_file() or metrics.stat().st_mtime < checkpoint.stat().st_mtime:
        options = ['--data-root', data, '--work-dir', folder, '--out', predictions]
        folder.mkdir(exist_ok=True)
        with console.status('evaluation'):
            run_logged(
                [TOOLS / 'test.py', CONFIG, checkpoint, *options],
                environment,
                work_dir / 'test.log',
                lambda: None,
            )
        newest = max(folder.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
        newest.replace(metrics)
    return json.loads(metrics.read_text()), pickle.loads(predictions.read_bytes())


def print_results(metrics: dict, paths: dict[str, Path]) -> None:
    """Print the AP table and where everything is."""
    table = Table(title='box AP on images the detector never saw')
    table.add_column('metric')
    table.add_column('value', justify='right')
    for key, label in METRICS.items():
        if metrics[key] >= 0:  # -1: there is no object of that size
            table.add_row(label, f'{metrics[key]:.3f}')
    console.print(table)
    for name, path in paths.items():
        console.print(f'{name:<12} {path}', soft_wrap=True)


def main() -> None:
    """Run the demo."""
    args = parse_args()
    device, reason = choose_device()
    console.print(f'device: {device} ({reason})')
    with user_input():
        workers = os.cpu_count() or 1
        written = make_shapes(args.data, ShapesConfig(), ['scenes'], workers, track=track)
    data = Path(args.data) / 'scenes'
    console.print(f'data: {data}' + ('' if written['scenes'] else ' was there'))

    work_dir = Path(args.work_dir or f'work_dirs/demo_seed{args.seed}')
    work_dir.mkdir(parents=True, exist_ok=True)
    environment = make_environment(device)
    checkpoint = train(work_dir, data, args.seed, environment)
    metrics, predictions = test(work_dir, data, checkpoint, environment)

    grid, curves = work_dir / 'predictions.png', work_dir / 'curves.png'
    save_prediction_grid(predictions[:SHOWN], CLASSES, PALETTE, grid)
    plotted = dict(list(METRICS.items())[:3])
    plot_training(work_dir, plotted, curves, f'{CONFIG.stem}, seed {args.seed}')
    print_results(
        metrics,
        {
            'checkpoint': checkpoint,
            'predictions': grid,
            'curves': curves,
            'log': work_dir / 'train.log',
        },
    )


if __name__ == '__main__':
    run_cli(main)
