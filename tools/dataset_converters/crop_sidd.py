#!/usr/bin/env python
"""Cut SIDD-Medium's photos into the training patches of Uformer's recipe: input/, groundtruth/."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

from mmeffvit.cli.errors import run_cli, user_input
from mmeffvit.cli.options import Parser, output_folder, positive, seed
from mmeffvit.denoising.data.datasets import sidd_pairs
from mmeffvit.utils.images import read_image, write_image


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('source', type=Path, help='SIDD_Medium_Srgb/Data')
    parser.add_argument('out', type=output_folder, help='folder for input/ and groundtruth/')
    parser.add_argument('--patches', type=positive, default=300, help='patches of each photo')
    parser.add_argument('--size', type=positive, default=256, help='side of a patch in pixels')
    parser.add_argument('--seed', type=seed, default=0)
    return parser.parse_args()


def crop_pairs(
    pairs: list[tuple[Path, Path]], out: Path, patches: int, size: int, seed: int
) -> Iterator[None]:
    """Write ``patches`` random squares of each pair as ``{photo}_{patch}.png``, counted from 1.

    Args:
        pairs (list[tuple[Path, Path]]): Noisy and clean photos.
        out (Path): Receives ``input`` and ``groundtruth``.
        patches (int): Squares per photo.
        size (int): Their side in pixels.
        seed (int): Seed of their places; photo and patch have their own numbers.

    Yields:
        None: After every photo.

    Raises:
        ValueError: If a photo is smaller than a patch, unreadable, or unlike its partner.
    """
    for number, (noisy_path, clean_path) in enumerate(pairs, 1):
        noisy, clean = read_image(noisy_path), read_image(clean_path)
        H, W = noisy.shape[:2]
        if noisy.shape != clean.shape or min(H, W) < size:
            raise ValueError(
                f'{noisy_path} is {noisy.shape}, its partner {clean.shape}: both need one size of '
                f'at least {size}.'
            )
        rng = np.random.default_rng([seed, number])
        for patch in range(1, patches + 1):
            top, left = rng.integers(H - size + 1), rng.integers(W - size + 1)
            for folder, image in (('input', noisy), ('groundtruth', clean)):
                square = image[top : top + size, left : left + size]
                write_image(out / folder / f'{number}_{patch}.png', square)
        yield


def main() -> None:
    """Cut all photos."""
    args = parse_args()
    with user_input():
        pairs = sidd_pairs(args.source)
        steps = crop_pairs(pairs, args.out, args.patches, args.size, args.seed)
        for _ in track(steps, description='crop SIDD', total=len(pairs)):
            pass


if __name__ == '__main__':
    run_cli(main)
