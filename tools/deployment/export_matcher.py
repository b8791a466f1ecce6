#!/usr/bin/env python
"""Export a matcher for two image sizes to ONNX.

    tools/deployment/export_matcher.py CONFIG CHECKPOINT matcher.onnx --size 480 640

Inputs are image0 and image1, grey (1, 1, H, W) in [0, 1]; outputs are points0 (every cell of image
0), points1 and confidence, which is 0 where there is no match.
"""

import argparse

from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.errors import add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, output_file, positive
from mmeffvit.matching import Matcher, export_matcher
from mmeffvit.utils.config import read_config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file of a matcher')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('out', type=output_file, help='the .onnx file')
    size = dict(type=positive, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--size', default=(480, 640), help='of image 0', **size)
    parser.add_argument('--size1', help='of image 1; that of image 0 by default', **size)
    add_allow_partial(parser)
    return parser.parse_args()


def main() -> None:
    """Export."""
    args = parse_args()
    with user_input(), partial_allowed(args.allow_partial):
        matcher = Matcher.from_config(read_config(args.config), args.checkpoint)
    export_matcher(matcher.model, args.out, tuple(args.size), tuple(args.size1 or args.size))
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_cli(main)
