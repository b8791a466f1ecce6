#!/usr/bin/env python
"""Convert a checkpoint of public code to this package's keys.

    tools/convert_checkpoint.py b2.pth quadtree_b2.pth --family quadtree
    tools/convert_checkpoint.py retinanet.pth detector.pth --family quadtree --part model

The result loads by init_cfg=dict(type='Pretrained', checkpoint=DST); with --part model, what is
beside the backbone comes along and tools/test.py loads it. Reads and writes .pth and .safetensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from mmeffvit import __version__
from mmeffvit.checkpoints import FAMILIES, PARTS, Conversion, convert, read_weights, write_weights
from mmeffvit.cli.errors import UserError, run_cli, user_input
from mmeffvit.cli.options import Parser, output_file, positive
from mmeffvit.layers import Mlp
from mmeffvit.layers.quadtree import VALUE_ACTS
from mmeffvit.layers.window import SHIFT_RULES
from mmeffvit.zoo import current_name

SUFFIXES = ('.pth', '.pt', '.safetensors')
SHOWN = 10


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('src', help='checkpoint of public code: a file or a URL')
    parser.add_argument('dst', type=output_file, help='where to write the converted one')
    parser.add_argument(
        '--family',
        required=True,
        type=lambda name: current_name(name, FAMILIES),
        choices=sorted(FAMILIES),
    )
    parser.add_argument('--part', choices=PARTS, default='backbone')
    parser.add_argument(
        '--num-heads',
        type=positive,
        nargs='+',
        metavar='HEADS',
        help='heads of a ViT, or of each stage of a pyramid, where the widths do not tell them',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='image size of the position table of a ViT, where it is not square',
    )
    parser.add_argument(
        '--drop-distillation',
        action='store_true',
        help='leave out the distillation token of a DeiT and its head; the outputs change',
    )
    parser.add_argument(
        '--activation',
        choices=list(Mlp.activations),
        help="activation of a ViT; OpenAI's CLIP has quick_gelu",
    )
    parser.add_argument(
        '--shift-rule',
        choices=SHIFT_RULES,
        help='whose shifts of windows a Swin makes where a map fits in one',
    )
    parser.add_argument(
        '--value-act',
        choices=VALUE_ACTS,
        help='activation that a QuadTree has in its value branches (gelu)',
    )
    parser.add_argument('--allow-partial', action='store_true', help='write despite a mismatch')
    parser.add_argument('--verbose', action='store_true', help='list every key')
    return parser.parse_args()


def main() -> None:
    """Convert, report, write."""
    args = parse_args()
    if args.dst.suffix not in SUFFIXES:
        raise UserError(f'{args.dst} must end in one of {", ".join(SUFFIXES)}.')
    with user_input():
        weights = read_weights(args.src)
    try:
        result = convert(
            weights,
            args.family,
            args.part,
            num_heads=args.num_heads and tuple(args.num_heads),
            image_size=args.image_size and tuple(args.image_size),
            drop_distillation=args.drop_distillation,
            activation=args.activation,
            shift_rule=args.shift_rule,
            value_act=args.value_act,
        )
    except ValueError as error:
        raise UserError(f'{args.src}: {error}') from error
    report(result, args.verbose)
    if not result.is_exact and not args.allow_partial:
        raise UserError(
            f'{args.src} does not fill the backbone, nothing was written; '
            '--allow-partial writes what fits.'
        )
    for key in [line.partition(':')[0] for line in result.mismatched]:
        del result.state[key if key in result.state else f'backbone.{key}']
    meta = dict(
        family=args.family, source=Path(args.src).name, config=result.config, mmeffvit=__version__
    )
    write_weights(result.state, args.dst, meta)
    Console().print(f'wrote {args.dst} ({len(result.state)} tensors)', soft_wrap=True)


def report(result: Conversion, verbose: bool) -> None:
    """Print the model that was inferred and what happened to every key."""
    console = Console(soft_wrap=True, highlight=False)
    for name, value in result.config.items():
        console.print(f'{name}: {value}', markup=False)
    for note in result.notes:
        console.print(f'note: {note}', markup=False)
    sections = {
        'mapped': [f'{public} -> {ours}' for public, ours in result.mapped],
        'dropped on purpose': [f'{key} ({reason})' for key, reason in result.dropped],
        'not in the file, left as initialised': result.untrained,
        'missing': result.missing,
        'unexpected': result.unexpected,
        'of another shape': result.mismatched,
    }
    for title, lines in sections.items():
        console.print(f'{title}: {len(lines)}')
        quiet = title == 'mapped' and not verbose
        shown = [] if quiet else lines if verbose else lines[:SHOWN]
        for line in shown:
            console.print(f'  {line}', markup=False)
        if not quiet and len(shown) < len(lines):
            console.print(f'  ... and {len(lines) - len(shown)} more, see --verbose')


if __name__ == '__main__':
    run_cli(main)
