#!/usr/bin/env python
"""Train a matcher on generated pairs, or stereo networks on generated scenes, and compare them.

``matching`` trains a small QuadTree matcher and shows SIFT's figures beside it; ``stereo`` trains
STTR with full attention along lines, and the variant with a tree beside it. Finished trainings are
kept. The exit code is 1 if a figure misses its bar.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mmeffvit.cli.errors import UserError, run_cli
from mmeffvit.cli.options import Parser, output_folder, seed
from mmeffvit.matching import HomographyAUC, HomographyPairs, Matcher, MatchPrecision, draw_matches
from mmeffvit.matching.geometry import warp_by_homography
from mmeffvit.stereo import LayeredStereo, StereoMatcher, colour_disparity
from mmeffvit.utils.device import choose_device
from mmeffvit.utils.images import write_image
from run import make_environment, run_logged
from training_curves import read_scalars

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / 'tools' / 'train.py'
#: Ratio of the distances of the best and the second best neighbour, of Lowe's test.
SIFT_RATIO = 0.8
SHOWN = 4
RIGHT = 3.0  # pixels
console = Console(highlight=False)


@dataclass(frozen=True)
class Demo:
    """What is trained and what it should reach.

    Args:
        title (str): Of the table.
        configs (Sequence[str]): Names of the configs; the bar is for the first.
        columns (dict[str, str]): Metric to the head of its column.
        bars (dict[str, tuple[str, float]]): Metric to ``'>='`` or ``'<='`` and the bar.
        baseline (Callable): Rows that need no training, ``baseline(config) -> {name: metrics}``.
        draw (Callable): ``draw(config, checkpoint, device) -> picture``.
    """

    title: str
    configs: Sequence[str]
    columns: dict[str, str]
    bars: dict[str, tuple[str, float]]
    baseline: Callable[[Config], dict[str, dict[str, float]]]
    draw: Callable[[Config, Path, str], np.ndarray]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('demo', choices=DEMOS)
    parser.add_argument('--seeds', type=seed, nargs='+', default=[0], help='one training each')
    parser.add_argument('--work-dir', type=output_folder, help='default: work_dirs/<DEMO>')
    return parser.parse_args()


def main() -> int:
    """Run a demo."""
    args = parse_args()
    demo = DEMOS[args.demo]
    work_dir = Path(args.work_dir or f'work_dirs/{args.demo}')
    device, reason = choose_device()
    console.print(f'device: {device} ({reason})')
    environment = make_environment(device)
    rows: dict[str, dict[str, float]] = {}
    checkpoints = []
    for name in demo.configs:
        # What stands beside the first is trained once.
        for number in args.seeds if name == demo.configs[0] else args.seeds[:1]:
            metrics, checkpoint = train(name, number, work_dir, environment)
            rows[f'{name}, seed {number}'] = metrics
            checkpoints.append(checkpoint)
    config = Config.fromfile(ROOT / 'configs' / f'{demo.configs[0]}.py')
    rows.update(demo.baseline(config))
    missed = print_table(demo, rows, len(args.seeds))
    picture = work_dir / f'{args.demo}.png'
    write_image(picture, demo.draw(config, checkpoints[0], device))
    console.print(f'picture      {picture}\ncheckpoint   {checkpoints[0]}', soft_wrap=True)
    for sentence in missed:
        console.print(f'missed: {sentence}')
    return 1 if missed else 0


def train(
    name: str, number: int, work_dir: Path, environment: dict[str, str]
) -> tuple[dict[str, float], Path]:
    """Train one model, or keep what is trained; its metrics after the last step, and checkpoint."""
    folder = work_dir / f'{name}_seed{number}'
    folder.mkdir(parents=True, exist_ok=True)
    config = ROOT / 'configs' / f'{name}.py'
    steps = Config.fromfile(config).max_iters
    start = time.monotonic()
    if not (folder / f'iter_{steps}.pth').is_file():
        console.print(f'{name}, seed {number}: training; its log is {folder / "log.txt"}')
        options = ['--work-dir', folder, '--seed', number, '--resume']
        spoken = 0

        def watch() -> None:
            nonlocal spoken
            records = [r for r in read_scalars(folder) if 'loss' in r]
            if records and records[-1]['step'] >= spoken + steps // 10:
                spoken = records[-1]['step']
                console.print(f'step {spoken}/{steps}, loss {records[-1]["loss"]:.2f}')

        run_logged([TRAIN, config, *options], environment, folder / 'log.txt', watch)
        console.print(f'{name}, seed {number}: {time.monotonic() - start:.0f} s')
    measured = [record for record in read_scalars(folder) if 'loss' not in record]
    if not measured:
        raise UserError(f'{folder} holds a training without metrics; remove it.')
    return measured[-1], folder / f'iter_{steps}.pth'


def print_table(demo: Demo, rows: dict[str, dict[str, float]], seeds: int) -> list[str]:
    """Print all rows; returns what misses a bar."""
    table = Table('model', *demo.columns.values(), title=demo.title)
    for name, metrics in rows.items():
        table.add_row(
            name, *(f'{metrics[key]:.3f}' if key in metrics else '–' for key in demo.columns)
        )
    bars = [' '.join(map(str, demo.bars[key])) if key in demo.bars else '' for key in demo.columns]
    table.add_row('bar', *bars)
    console.print(table)
    return [
        f'{name}: {demo.columns[key]} {metrics[key]:.3f}, not {sign} {bar}'
        for name, metrics in list(rows.items())[:seeds]
        for key, (sign, bar) in demo.bars.items()
        if not (metrics[key] >= bar if sign == '>=' else metrics[key] <= bar)
    ]


def sift_matches(image0: np.ndarray, image1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of OpenCV's SIFT in two grey images that pass Lowe's ratio test, ``(M, 2)`` each."""
    sift = cv2.SIFT_create()
    found = [
        sift.detectAndCompute(np.rint(255 * image).astype(np.uint8), None)
        for image in (image0, image1)
    ]
    (keys0, features0), (keys1, features1) = found
    nothing = np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    if features0 is None or features1 is None or len(features1) < 2:
        return nothing
    pairs = cv2.BFMatcher().knnMatch(features0, features1, k=2)
    kept = [a for a, b in pairs if a.distance < SIFT_RATIO * b.distance]
    if not kept:
        return nothing
    return (
        np.float32([keys0[match.queryIdx].pt for match in kept]),
        np.float32([keys1[match.trainIdx].pt for match in kept]),
    )


def validation_pairs(config: Config) -> HomographyPairs:
    """The pairs that a matcher is tested on, as arrays."""
    options = {k: v for k, v in config.val_dataloader.dataset.items() if k != 'type'}
    return HomographyPairs(**{**options, 'pipeline': []})


def measure_sift(config: Config) -> dict[str, dict[str, float]]:
    """SIFT's figures on the validation pairs."""
    metrics = MatchPrecision(thresholds=(1, 3)), HomographyAUC()
    results: list[list[dict]] = [[], []]
    pairs = validation_pairs(config)
    for index in range(len(pairs)):
        pair = pairs.get_data_info(index)
        points0, points1 = sift_matches(pair['image0'], pair['image1'])
        sample = dict(
            points0=torch.from_numpy(points0),
            points1=torch.from_numpy(points1),
            confidence=torch.ones(len(points0)),
            homography=torch.from_numpy(pair['homography']),
            size0=pair['image0'].shape,
            size1=pair['image1'].shape,
        )
        for metric, result in zip(metrics, results):
            result.append(metric.evaluate_pair(sample))
    figures = {}
    for metric, result in zip(metrics, results):
        found = metric.compute_metrics(result)
        figures.update({f'{metric.prefix}/{key}': value for key, value in found.items()})
    return {'SIFT, ratio test': figures}


def draw_pairs(config: Config, checkpoint: Path, device: str) -> np.ndarray:
    """Matches of some validation pairs: green within three pixels, red else."""
    matcher = Matcher.from_config(config, checkpoint, device, long_side=None)
    pairs = validation_pairs(config)
    rows = []
    for index in range(SHOWN):
        pair = pairs.get_data_info(index)
        images = pair['image0'], pair['image1']
        found = matcher(*images)
        homography = torch.from_numpy(pair['homography'])
        there = warp_by_homography(torch.from_numpy(found.points0), homography).numpy()
        right = np.linalg.norm(there - found.points1, axis=1) < RIGHT
        rows.append(draw_matches(*images, found.points0, found.points1, right=right))
    return np.concatenate(rows)


def constant_guess(config: Config) -> dict[str, dict[str, float]]:
    """End-point error of one disparity for all pixels, the median of the validation scenes."""
    scenes = validation_scenes(config)
    visible = []
    for index in range(len(scenes)):
        scene = scenes.get_data_info(index)
        visible.append(scene['disparity'][~scene['occlusion']])
    guess = np.median(np.concatenate(visible))
    errors = [np.abs(disparity - guess) for disparity in visible]
    shares = {f'stereo/{t}px': 100 * float((np.concatenate(errors) > t).mean()) for t in (1, 3)}
    return {
        f'constant {guess:.1f} px': {'stereo/epe': float(np.mean([e.mean() for e in errors]))}
        | shares
    }


def validation_scenes(config: Config) -> LayeredStereo:
    """The scenes that a stereo network is tested on, as arrays."""
    options = {k: v for k, v in config.val_dataloader.dataset.items() if k != 'type'}
    return LayeredStereo(**{**options, 'pipeline': []})


def draw_scenes(config: Config, checkpoint: Path, device: str) -> np.ndarray:
    """Left image, true and predicted disparity of some validation scenes; occluded is black."""
    matcher = StereoMatcher.from_config(config, checkpoint, device)
    scenes = validation_scenes(config)
    rows = []
    for index in range(SHOWN):
        scene = scenes.get_data_info(index)
        found = matcher(scene['left'], scene['right'])
        largest = float(scene['disparity'].max())
        maps = (scene['disparity'], scene['occlusion']), found
        coloured = [colour_disparity(*pair, largest=largest) for pair in maps]
        rows.append(np.concatenate([scene['left'], *coloured], 1))
    return np.concatenate(rows)


DEMOS = {
    'matching': Demo(
        'matches on 100 pairs that were not trained on',
        ('quadtree_matcher_t_shapes',),
        {
            'match/mma@3': 'within 3 px',
            'match/mma@1': 'within 1 px',
            'match/matches': 'matches',
            'match/recall': 'recall of cells',
            'homography/auc@3': 'AUC@3',
            'homography/auc@5': 'AUC@5',
            'homography/auc@10': 'AUC@10',
        },
        {
            'match/mma@3': ('>=', 0.95),
            'match/matches': ('>=', 125),
            'match/recall': ('>=', 0.44),
            'homography/auc@10': ('>=', 0.88),
        },
        measure_sift,
        draw_pairs,
    ),
    'stereo': Demo(
        'disparity of visible pixels of 40 scenes that were not trained on',
        ('sttr_t_shapes', 'quadtree_sttr_t_shapes'),
        {
            'stereo/epe': 'end-point error (px)',
            'stereo/3px': 'over 3 px (%)',
            'stereo/1px': 'over 1 px (%)',
            'stereo/occluded_iou': 'IoU of occluded',
        },
        {
            'stereo/epe': ('<=', 1.2),
            'stereo/3px': ('<=', 8.0),
            'stereo/occluded_iou': ('>=', 0.5),
        },
        constant_guess,
        draw_scenes,
    ),
}

if __name__ == '__main__':
    run_cli(main)
