#!/usr/bin/env python
"""Train LookupViT and a ViT of the same widths on generated patterns, and draw accuracy over cost.

One LookupViT per task is trained for several numbers of compressed tokens and tested at each. First
a picture holds one pattern, for which one token is enough; then every pixel of a mosaic is
classified, for which it is not. As many trainings run at once as there are cores, one thread each.
Finished trainings are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmeffvit.analysis import count_complexity
from mmeffvit.cli.errors import run_cli, user_input
from mmeffvit.models import build_model
from mmeffvit.utils.atomic import atomic, write_json
from mmeffvit.utils.config import activate_scope
from mmeffvit.utils.device import choose_device
from run import make_environment, run_logged
from shapes import ShapesConfig, make_shapes

ROOT = Path(__file__).resolve().parents[1]
TOOLS, CONFIGS = ROOT / 'tools', ROOT / 'configs'
console = Console(highlight=False)


@dataclass(frozen=True)
class Comparison:
    """A LookupViT at several numbers of compressed tokens, and its control.

    Args:
        title (str): What is asked of the models.
        model (str): Name of the config of the LookupViT.
        control (str): Name of the config of the ViT.
        folder (str): Task of the shapes data, which is its folder.
        data (ShapesConfig): What that folder holds.
        metric (str): Name of the metric, in per cent.
        label (str): What the metric is called in the table and the picture.
        sizes (Sequence[int]): Sides of the compressed grids to test.
        image_size (int): Side of the image for which multiply-adds are counted.
    """

    title: str
    model: str
    control: str
    folder: str
    data: ShapesConfig
    metric: str
    label: str
    sizes: Sequence[int]
    image_size: int


@dataclass(frozen=True)
class Result:
    """What was measured in a comparison.

    Args:
        model (np.ndarray): ``(sizes, seeds)`` metrics of the LookupViT.
        macs (Sequence[float]): Millions of multiply-adds of its backbone at every size.
        control_macs (float): Those of the control.
        control (np.ndarray): ``(seeds,)`` metrics of the control.
    """

    model: np.ndarray
    macs: Sequence[float]
    control_macs: float
    control: np.ndarray


COMPARISONS = {
    'classification': Comparison(
        'one pattern per picture',
        'lookupvit_ti_shapes',
        'vit_ti_shapes',
        'classification',
        ShapesConfig(num_train=3000, num_val=800, size_range=(65, 79)),
        'accuracy/top1',
        'top-1 (%)',
        (1, 2, 3),
        64,
    ),
    'segmentation': Comparison(
        'tints of a mosaic under grain',
        'fcn_lookupvit_ti_shapes',
        'fcn_vit_ti_shapes',
        'mosaics',
        ShapesConfig(num_train=1000, num_val=200, size_range=(80, 80)),
        'mIoU',
        'mIoU (%)',
        (1, 2, 3, 4),
        80,
    ),
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        'tasks', nargs='*', default=list(COMPARISONS), help=f'any of {", ".join(COMPARISONS)}'
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='one training each')
    parser.add_argument('--data', type=Path, default='data/patterns')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/elastic')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='trainings at once')
    return parser.parse_args()


def main() -> None:
    """Run the demo."""
    args = parse_args()
    start = time.monotonic()
    device, reason = choose_device()
    console.print(f'device: {device} ({reason})')
    environment = {**make_environment(device), 'OMP_NUM_THREADS': '1'}
    with user_input():
        for task in args.tasks:
            if task not in COMPARISONS:
                raise ValueError(f'{task} is not one of {", ".join(COMPARISONS)}.')
            one = COMPARISONS[task]
            make_shapes(args.data, one.data, [one.folder], args.workers, track=track)
    comparisons = [COMPARISONS[task] for task in args.tasks]
    # The controls take longest: they come first.
    jobs = [
        (one, role, seed)
        for role in ('control', 'model')
        for one in comparisons
        for seed in args.seeds
    ]
    with ThreadPoolExecutor(args.workers) as pool:
        futures = [
            pool.submit(train_and_test, *job, args.data, args.work_dir, environment) for job in jobs
        ]
        found = {job: future.result() for job, future in zip(jobs, futures)}
    results = []
    for one in comparisons:
        model, control = (
            np.transpose([found[one, role, seed] for seed in args.seeds])
            for role in ('model', 'control')
        )
        results.append(Result(model, *count_macs(one), control[0]))
        print_table(one, results[-1], args.seeds)
    picture = args.work_dir / 'elastic.png'
    draw(comparisons, results, picture)
    console.print(f'picture      {picture}', soft_wrap=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_time = used.ru_utime + used.ru_stime
    console.print(f'took         {time.monotonic() - start:.0f} s, {cpu_time:.0f} s of CPU time')


def train_and_test(
    one: Comparison, role: str, seed: int, data: Path, work_dir: Path, environment: dict[str, str]
) -> list[float]:
    """Train one model, or keep what is trained, and test it; one value per compressed size."""
    name = getattr(one, role)
    config, folder = CONFIGS / f'{name}.py', work_dir / f'{name}_seed{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    log, results = folder / 'log.txt', folder / 'metrics.json'
    if results.is_file():
        console.print(f'{name}, seed {seed}: finished before, kept')
        return json.loads(results.read_text())

    def run(tool: str, *options) -> None:
        command = [TOOLS / tool, config, *options, '--data-root', data / one.folder, '--work-dir']
        target = folder if tool == 'train.py' else folder / 'test'
        run_logged([*command, target], environment, log, lambda: None)

    console.print(f'{name}, seed {seed}: training; its log is {log}', soft_wrap=True)
    start = time.monotonic()
    run('train.py', '--seed', seed, '--resume')
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    if role == 'model':
        curve = folder / 'curve.json'
        run('analysis_tools/elastic_eval.py', checkpoint, '--json', curve, '--sizes', *one.sizes)
        values = [record['metrics'][one.metric] for record in json.loads(curve.read_text())]
    else:
        run('test.py', checkpoint)
        newest = max(folder.glob('test/*/*.json'), key=lambda path: path.stat().st_mtime)
        values = [json.loads(newest.read_text())[one.metric]]
    write_json(results, values)
    console.print(f'{name}, seed {seed}: {time.monotonic() - start:.0f} s')
    return values


def count_macs(one: Comparison) -> tuple[list[float], float]:
    """Millions of multiply-adds of the backbones: at every compressed size, and of the control."""
    shape = (1, 3, one.image_size, one.image_size)
    backbones = []
    for name in (one.model, one.control):
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        activate_scope(cfg)
        backbones.append(build_model(cfg).backbone)
    elastic, control = backbones
    macs = []
    for size in one.sizes:
        elastic.set_compressed_size(size)
        macs.append(count_complexity(elastic, shape).macs / 1e6)
    return macs, count_complexity(control, shape).macs / 1e6


def print_table(one: Comparison, result: Result, seeds: Sequence[int]) -> None:
    """Print the metric of every seed."""
    title = f'{one.title}, {one.label}'
    columns = 'model', 'tokens', 'MMAC', 'of the ViT', *(f'seed {seed}' for seed in seeds)
    table = Table(*columns, title=title)
    rows = [
        ('LookupViT', f'{s}x{s}', m, v) for s, m, v in zip(one.sizes, result.macs, result.model)
    ]
    for model, tokens, macs, values in [*rows, ('ViT', 'all', result.control_macs, result.control)]:
        share = f'{macs / result.control_macs:.2f}'
        table.add_row(model, tokens, f'{macs:.1f}', share, *(f'{value:.1f}' for value in values))
    console.print(table)


def draw(comparisons: Sequence[Comparison], results: Sequence[Result], path: Path) -> None:
    """Draw the mean of the seeds over the multiply-adds of the backbone, one panel per task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(comparisons), 3.8), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(comparisons), squeeze=False)[0]
    for axes, one, result in zip(panels, comparisons, results):
        means = result.model.mean(1)
        spread = np.abs(np.stack([result.model.min(1), result.model.max(1)]) - means)
        axes.errorbar(result.macs, means, spread, marker='o', capsize=3, label='LookupViT')
        for side, x, y in zip(one.sizes, result.macs, means):
            place = dict(textcoords='offset points', xytext=(5, -12))
            axes.annotate(f'{side}×{side}', (x, y), **place)
        control = result.control.mean()
        axes.plot(result.control_macs, control, 's', color='C1', label='ViT of the same widths')
        axes.axhline(control, color='C1', linestyle=':')
        axes.set(xlabel='multiply-adds of the backbone (M)', ylabel=one.label, title=one.title)
        axes.set_xlim(0, None)
        axes.grid(alpha=0.3)
        axes.legend(loc='best')
    with atomic(path) as partial:
        figure.savefig(partial, dpi=150)


if __name__ == '__main__':
    run_cli(main)
