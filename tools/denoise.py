#!/usr/bin/env python
"""Denoise an image, a folder of images or frames, or a video.

Exit code 0: all done; 1: some files could not be read, they are named; 2: nothing was tried.
"""

import argparse

from mmengine.device import get_device
from rich.progress import track

from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.errors import add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, device, natural, output_folder
from mmeffvit.denoising import Denoiser, denoise_path
from mmeffvit.utils.config import read_config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file of a denoiser')
    parser.add_argument(
        'checkpoint', help='its weights: a file, a URL, mmeffvit://NAME, or published'
    )
    parser.add_argument('source', help='image, video, or folder of images, frames or clips')
    parser.add_argument('--out', required=True, type=output_folder, help='folder for the results')
    parser.add_argument(
        '--side-by-side',
        action='store_true',
        help='also write noisy and denoised beside each other',
    )
    parser.add_argument(
        '--device', type=device, default=get_device(), help='cpu, cuda, cuda:1, ...'
    )
    parser.add_argument(
        '--tile', type=natural, help="side of a tile instead of the config's; 0 for whole images"
    )
    parser.add_argument('--overlap', type=natural, help="overlap of tiles instead of the config's")
    add_allow_partial(parser)
    return parser.parse_args()


def main() -> int:
    """Denoise what can be read, then name what could not."""
    args = parse_args()
    with user_input(), partial_allowed(args.allow_partial):
        config = read_config(args.config)
        denoiser = Denoiser.from_config(
            config, args.checkpoint, args.device, args.tile, args.overlap
        )
        report = denoise_path(denoiser, args.source, args.out, args.side_by_side, track)
    return report.conclude(args.out)


if __name__ == '__main__':
    run_cli(main)
