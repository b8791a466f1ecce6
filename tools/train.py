#!/usr/bin/env python
"""Train the model of a config."""

import argparse

from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.data_files import check_data_files
from mmeffvit.cli.data_paths import check_data, check_loaders
from mmeffvit.cli.errors import run_cli, user_input
from mmeffvit.cli.launch import (
    add_common_arguments,
    build_runner,
    load_config,
    process_group,
)
from mmeffvit.cli.options import Parser, seed
from mmeffvit.cli.training import (
    check_optimizer,
    choose_start,
    enable_amp,
    enable_auto_scale_lr,
    enable_finite_loss,
    enable_resume,
    preview_weights,
    refuse_published,
    set_seed,
)
from mmeffvit.utils.config import activate_scope


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--amp', action='store_true', help='use automatic mixed precision')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint, by default the last one in the work directory',
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='start from initial values, not from the weights that the config names',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size',
    )
    parser.add_argument('--seed', type=seed, help='seed of weights, data order and augmentation')
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='start from what fits of weights of which less than half does',
    )
    parser.add_argument(
        '--ignore-nonfinite', action='store_true', help='go on when the loss is NaN or infinite'
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Check what can be checked before a model is built, then train."""
    args = parse_args()
    loaders = ('train_dataloader', 'val_dataloader')
    with user_input():
        cfg = load_config(args)
        activate_scope(cfg)
        check_loaders(cfg, loaders)
        check_optimizer(cfg)
        if args.seed is not None:
            set_seed(cfg, args.seed)
        if args.amp:
            enable_amp(cfg)
        if args.auto_scale_lr:
            enable_auto_scale_lr(cfg)
        resumed = enable_resume(cfg, args.resume) if args.resume else None
        if cfg.get('resume') and cfg.get('load_from'):
            refuse_published(str(cfg.load_from))
        left_out = choose_start(cfg, args.from_scratch)
        if not args.ignore_nonfinite:
            enable_finite_loss(cfg)
        check_data(cfg, loaders)
        check_data_files(cfg, loaders)
        with partial_allowed(args.allow_partial):
            notes = [*left_out, *preview_weights(cfg, resumed)]
    with process_group(cfg), partial_allowed(args.allow_partial):
        build_runner(cfg, notes).train()


if __name__ == '__main__':
    run_cli(main)
