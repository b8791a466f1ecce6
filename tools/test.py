#!/usr/bin/env python
"""Evaluate a checkpoint with the metrics of a config."""

import argparse

from mmeffvit.checkpoints import load_weights, partial_allowed
from mmeffvit.checkpoints.index import resolve
from mmeffvit.cli.data_files import check_data_files
from mmeffvit.cli.data_paths import check_data, check_loaders
from mmeffvit.cli.errors import add_allow_partial, run_cli, user_input
from mmeffvit.cli.launch import (
    add_common_arguments,
    build_runner,
    load_config,
    process_group,
)
from mmeffvit.cli.options import Parser, output_file, output_folder
from mmeffvit.cli.testing import (
    PICKLES,
    enable_tta,
    enable_visualization,
    save_predictions,
    whole_predictions,
)
from mmeffvit.models import build_model
from mmeffvit.utils.config import activate_scope


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help='its weights: a file, a URL, mmeffvit://NAME, or published'
    )
    add_allow_partial(parser)
    parser.add_argument(
        '--out', type=output, help='keep the predictions in this .pkl file (mmseg: in this folder)'
    )
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', type=output_folder, help='folder for drawn predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays open')
    parser.add_argument('--tta', action='store_true', help='use test-time augmentation')
    add_common_arguments(parser)
    return parser.parse_args()


def output(text: str) -> str:
    """Read the path of a file, or of a folder for mmseg, that can be written."""
    return str((output_file if text.endswith(PICKLES) else output_folder)(text))


def main() -> None:
    """Check what can be checked before a model is built, then test."""
    args = parse_args()
    with whole_predictions(args.out) as out:
        run(args, out)


def run(args: argparse.Namespace, out: str | None) -> None:
    """Test, and write predictions to ``out``."""
    with user_input():
        cfg = load_config(args)
        scope = activate_scope(cfg)
        check_loaders(cfg, ('test_dataloader',))
        checkpoint = resolve(args.checkpoint, args.config)
        loaded = load_weights(build_model(cfg), checkpoint, args.allow_partial)
        cfg.load_from = checkpoint
        if args.show or args.show_dir:
            show_dir = str(args.show_dir) if args.show_dir else None
            enable_visualization(cfg, scope, args.show, show_dir, args.wait_time)
        if args.tta:
            enable_tta(cfg, scope)
        if out:
            save_predictions(cfg, scope, out)
        check_data(cfg, ('test_dataloader',))
        check_data_files(cfg, ('test_dataloader',))
    with process_group(cfg), partial_allowed(args.allow_partial):
        build_runner(cfg, [f'{loaded}.']).test()


if __name__ == '__main__':
    run_cli(main)
