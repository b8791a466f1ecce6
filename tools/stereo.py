#!/usr/bin/env python
"""Compute the disparity of a rectified pair, or of two folders of images of the same names.

    tools/stereo.py CONFIG CHECKPOINT left.png right.png --out result

writes disparity (.pfm and 16-bit .png in 1/256 pixel), a mask of occlusion, a coloured picture, and
with --depth FOCAL BASELINE depth in the unit of the baseline (.pfm).
Exit code 0: all done; 1: some pairs could not be used, they are named; 2: nothing was tried.
"""

import argparse

from mmengine.device import get_device
from rich.progress import track

from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.errors import add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, device, output_folder
from mmeffvit.stereo import StereoMatcher, find_stereo_pairs, write_stereo_files
from mmeffvit.utils.config import read_config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file of a stereo network')
    parser.add_argument(
        'checkpoint', help='its weights: a file, a URL, mmeffvit://NAME, or published'
    )
    parser.add_argument('left', help='left image, or folder of left images')
    parser.add_argument('right', help='right image, or folder with images of the same names')
    parser.add_argument('--out', required=True, type=output_folder, help='folder for the results')
    parser.add_argument(
        '--depth',
        type=float,
        nargs=2,
        metavar=('FOCAL', 'BASELINE'),
        help='focal length in pixels and distance of the cameras: also write depth',
    )
    parser.add_argument(
        '--device', type=device, default=get_device(), help='cpu, cuda, cuda:1, ...'
    )
    add_allow_partial(parser)
    return parser.parse_args()


def main() -> int:
    """Compute what can be read, then name what could not."""
    args = parse_args()
    with user_input(), partial_allowed(args.allow_partial):
        pairs = find_stereo_pairs(args.left, args.right)
        matcher = StereoMatcher.from_config(read_config(args.config), args.checkpoint, args.device)
        report = write_stereo_files(
            matcher, track(pairs, description='stereo'), args.out, args.depth
        )
    return report.conclude(args.out)


if __name__ == '__main__':
    run_cli(main)
