#!/usr/bin/env python
"""Export a model to ONNX, checked against PyTorch in ONNX Runtime on two sizes.

    tools/deployment/export_onnx.py configs/quadtree_b0_imagenet.py epoch_300.pth quadtree.onnx

Batch, height and width are dynamic. The input is the output of the data preprocessor: normalized
images, for denoisers images in [0, 1]. Of detectors backbone and neck are exported, of segmentors
the logits of the head, of classifiers the scores. Without a checkpoint the weights are random.
"""

from __future__ import annotations

import argparse

import torch

from mmeffvit.checkpoints import load_weights, partial_allowed
from mmeffvit.checkpoints.index import resolve
from mmeffvit.cli.errors import UserError, add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, output_file, positive
from mmeffvit.deployment import check_onnx, export_onnx, exportable
from mmeffvit.models import build_model
from mmeffvit.utils.atomic import atomic_group
from mmeffvit.utils.config import read_config
from mmeffvit.utils.requirements import require


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument(
        'checkpoint', nargs='?', help='.pth, .safetensors, mmeffvit://NAME, or published'
    )
    parser.add_argument('out', type=output_file, help='file to write, .onnx')
    parser.add_argument('--backbone-only', action='store_true', help="export the backbone's maps")
    parser.add_argument(
        '--shape',
        type=positive,
        nargs=2,
        metavar=('H', 'W'),
        default=(150, 203),
        help='example to trace; odd sides keep every padding in the graph (150 203)',
    )
    parser.add_argument('--fixed-size', action='store_true', help='fix height and width to --shape')
    add_allow_partial(parser)
    return parser.parse_args()


def main() -> None:
    """Build, export, check."""
    args = parse_args()
    require('onnx', 'onnxscript', 'onnxruntime')
    if args.out.suffix != '.onnx':
        raise UserError(f'{args.out} must end in .onnx.')
    if min(args.shape) < 32:
        raise UserError(f'--shape {args.shape[0]} {args.shape[1]} must be at least 32 pixels.')
    with user_input(), partial_allowed(args.allow_partial):
        config = read_config(args.config)
        model = build_model(config)
        if args.checkpoint:
            load_weights(model, resolve(args.checkpoint, args.config))
        frames = getattr(model.backbone, 'num_frames', None)
        if args.backbone_only:
            model = exportable(model.backbone)
        else:
            model = exportable(model, config.get('default_scope', 'mmeffvit'))
        H, W = args.shape
        sizes = [(2, H, W), (1, H, W) if args.fixed_size else (1, H + 37, W - 11)]
        clip = [frames] if frames else []
        inputs = [torch.randn(batch, 3, *clip, *size) for batch, *size in sizes]
        with atomic_group(args.out) as partial:  # there is no file until it is checked
            export_onnx(model, inputs[0], partial, args.fixed_size)
            difference = check_onnx(partial, model, inputs)
    print(f'{args.out}: differs from PyTorch by at most {difference:.1e} at {sizes[0]}, {sizes[1]}')


if __name__ == '__main__':
    run_cli(main)
