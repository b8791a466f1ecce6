#!/usr/bin/env python
"""Draw the attention maps of a backbone for an image, as one sheet.

    tools/visualization/attention.py CONFIG CHECKPOINT cat.jpg sheet.png --point 120 80
    tools/visualization/attention.py CONFIG CHECKPOINT cat.jpg out.png --tokens 3,3 0,6 --layers -1

A row per attention layer, in the order they run. What is drawn depends on the layer: the weights
that the point assigns to its keys; the keys that it keeps on each level of a quadtree; the weights
in its local window; the weight of chosen global tokens at every position (DualToken-ViT, figure 4);
the keys of compressed tokens and their share at the point; the keys of the class token, which is
extra token 0. Layers that reuse an earlier attention, or have no explanation, are named instead.
Works with any config, and a checkpoint of its whole model or of its backbone. The image is used at
its own size unless --size is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

import mmeffvit  # noqa: F401  (configs may inherit by package name)
from mmeffvit.analysis.attention import AttentionQuery, explain_backbone
from mmeffvit.analysis.attention.sheet import draw_sheet, image_area
from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.errors import UserError, add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, output_file, positive
from mmeffvit.models import load_backbone
from mmeffvit.utils.atomic import atomic
from mmeffvit.utils.images import read_upright


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint', help='a file, a URL, mmeffvit://NAME, or published')
    parser.add_argument('image', type=Path)
    parser.add_argument('out', type=output_file, help='PNG to write')
    parser.add_argument(
        '--point', type=int, nargs=2, metavar=('X', 'Y'), help='in pixels; the centre by default'
    )
    parser.add_argument(
        '--tokens',
        nargs='+',
        type=token,
        metavar='ROW,COLUMN',
        help='global or compressed tokens; the centre and the middles of the sides by default',
    )
    parser.add_argument(
        '--layers', nargs='+', type=int, metavar='I', help='-1 is the last; all by default'
    )
    parser.add_argument(
        '--size', type=positive, nargs=2, metavar=('H', 'W'), help='resize the image'
    )
    add_allow_partial(parser)
    return parser.parse_args()


def token(text: str) -> tuple[int, int]:
    """Read ``ROW,COLUMN``."""
    row, _, column = text.partition(',')
    if not (row.isdigit() and column.isdigit()):
        raise argparse.ArgumentTypeError(f'{text} must be ROW,COLUMN, such as 3,3')
    return int(row), int(column)


def main() -> None:
    """Run the backbone and draw."""
    args = parse_args()
    if args.out.suffix != '.png':
        raise UserError(f'{args.out} must end in .png.')
    with user_input(), partial_allowed(args.allow_partial):
        image = read_upright(args.image)
        if args.size:
            image = cv2.resize(image, tuple(args.size)[::-1], interpolation=cv2.INTER_AREA)
        height, width = image.shape[:2]
        x, y = args.point or (width // 2, height // 2)
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f'--point {x} {y} is outside the image of {width}x{height} pixels.')
        backbone, normalize = load_backbone(args.config, args.checkpoint)
        area = image_area(backbone, (height, width))
        query = AttentionQuery(area, (x, y), args.tokens)
        inputs = normalize(image)[None]
        explanations = explain_backbone(backbone, inputs, query, args.layers)
    with atomic(args.out) as partial:
        draw_sheet(image, explanations, area).savefig(partial, dpi=120)
    for explanation in explanations:
        if explanation.note:
            print(f'{explanation.name} is not drawn: {explanation.note}')
    drawn = sum(bool(explanation.maps) for explanation in explanations)
    print(f'{args.out}: {drawn} of {len(explanations)} layers')


if __name__ == '__main__':
    run_cli(main)
