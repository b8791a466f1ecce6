#!/usr/bin/env python
"""Match two images, the images of two folders, or a list of pairs.

    tools/match.py CONFIG CHECKPOINT first.jpg second.jpg --out matches

writes points and confidences (.npz, .csv) and a picture of every pair.
Exit code 0: all done; 1: some pairs could not be used, they are named; 2: nothing was tried.
"""

import argparse

from mmengine.device import get_device
from rich.progress import track

from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.errors import add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, device, natural, output_folder, positive
from mmeffvit.matching import Matcher, find_pairs, match_files, read_intrinsics
from mmeffvit.utils.config import read_config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file of a matcher')
    parser.add_argument(
        'checkpoint', help='its weights: a file, a URL, mmeffvit://NAME, or published'
    )
    parser.add_argument('first', help='image, folder, or text file with two images per line')
    parser.add_argument('second', nargs='?', help='image, or folder with images of the same names')
    parser.add_argument('--out', required=True, type=output_folder, help='folder for the results')
    parser.add_argument(
        '--long-side',
        type=natural,
        default=840,
        help='shrink images to this longer side, 840 by default; 0 matches them as they are',
    )
    parser.add_argument('--max-matches', type=positive, help='keep the most confident ones')
    parser.add_argument(
        '--homography', action='store_true', help='estimate it, and draw the first image by it'
    )
    parser.add_argument(
        '--pose',
        metavar='K',
        help='estimate the relative pose; a text file with the 3x3 intrinsics of both images, or '
        'one matrix after the other',
    )
    parser.add_argument(
        '--device', type=device, default=get_device(), help='cpu, cuda, cuda:1, ...'
    )
    add_allow_partial(parser)
    return parser.parse_args()


def main() -> int:
    """Match what can be read, then name what could not."""
    args = parse_args()
    with user_input(), partial_allowed(args.allow_partial):
        pairs = find_pairs(args.first, args.second)
        intrinsics = None if args.pose is None else read_intrinsics(args.pose)
        matcher = Matcher.from_config(
            read_config(args.config), args.checkpoint, args.device, args.long_side or None
        )
        report = match_files(
            matcher,
            track(pairs, description='match'),
            args.out,
            args.max_matches,
            args.homography,
            intrinsics,
        )
    return report.conclude(args.out)


if __name__ == '__main__':
    run_cli(main)
