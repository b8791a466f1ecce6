#!/usr/bin/env python
"""Make a checkpoint ready to be shared: weights alone, safetensors, its hash in its name.

    tools/publish.py work_dirs/quadtree_b2/epoch_300.pth shared/quadtree_b2.safetensors \
        --config configs/quadtree_b2_imagenet.py --metric top-1=82.7

Writes shared/quadtree_b2-<first 8 digits of its SHA-256>.safetensors, without optimizer state,
histories, paths and settings of the run, and prints the entry for the index of published weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmeffvit import __version__
from mmeffvit.checkpoints import load_weights, read_weights, write_weights
from mmeffvit.checkpoints.download import sha256_of
from mmeffvit.checkpoints.index import OURS
from mmeffvit.checkpoints.published import dataset_meta_of
from mmeffvit.cli.errors import UserError, run_cli, user_input
from mmeffvit.cli.options import Parser, output_file
from mmeffvit.models import build_model
from mmeffvit.utils.atomic import atomic
from mmeffvit.utils.config import activate_scope, read_config

PARTS = dict(mmdet='detector', mmseg='segmentor', mmpretrain='classifier', mmeffvit='denoiser')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('checkpoint', help='what was trained')
    parser.add_argument('out', type=output_file, help='where to write, .safetensors')
    parser.add_argument('--config', help='check that the weights fill its model exactly')
    parser.add_argument(
        '--metric', nargs='+', type=metric, default=[], metavar='NAME=VALUE', help='its figures'
    )
    return parser.parse_args()


def metric(text: str) -> tuple[str, float]:
    """Read ``NAME=VALUE``."""
    name, separator, value = text.rpartition('=')
    try:
        number = float(value)
    except ValueError:
        separator = ''
    if not (separator and name):
        raise argparse.ArgumentTypeError(f'{text} must be NAME=VALUE, such as top-1=82.7')
    return name, number


def main() -> None:
    """Read, check, write under a partial name, rename by the hash."""
    args = parse_args()
    if args.out.suffix != '.safetensors':
        raise UserError(f'{args.out} must end in .safetensors.')
    with user_input():
        weights = read_weights(args.checkpoint)
        part, stem = 'backbone', None
        if args.config:
            config = read_config(args.config)
            part, stem = PARTS[activate_scope(config)], Path(args.config).stem
            load_weights(build_model(config), weights)
        meta = {
            'mmeffvit': __version__,
            **{key: weights.meta[key] for key in ('epoch', 'iter') if key in weights.meta},
            **dataset_meta_of(weights.meta),
        }
        with atomic(args.out, optional=True) as unnamed:
            write_weights(weights, unnamed, meta)
            digest = sha256_of(unnamed)
            path = args.out.with_name(f'{args.out.stem}-{digest[:8]}.safetensors')
            unnamed.replace(path)
    entry = dict(
        url=f'https://…/{path.name}',
        family=OURS,
        part=part,
        configs=[stem] if stem else [],
        results=dict(args.metric),
        sha256=digest,
        use='…',
        origin='https://…',
        license='…',
    )
    print(f'wrote {path} ({len(weights)} tensors, {path.stat().st_size / 2**20:.1f} MiB)')
    print('for mmeffvit/checkpoints/published.json, once it has an address:')
    print(f'  "{args.out.stem}": {json.dumps(entry, ensure_ascii=False)}')


if __name__ == '__main__':
    run_cli(main)
