#!/usr/bin/env python
"""Run a trained model on images, folders, patterns and videos, and draw its predictions.

    tools/infer.py configs/retinanet_quadtree_b2_coco.py epoch_12.pth street.jpg 'photos/**/*.jpg' \
        --out results --save-predictions

Detectors, segmentors and classifiers write pictures to OUT/vis; with --save-predictions also
OUT/preds/predictions.json (COCO's format, or the scores of the classes) or, for segmentors, a PNG
of class indices per image. Denoisers write denoised files to OUT.

Exit code 0: all done; 1: some files could not be used, they are named; 2: nothing was tried.
"""

import argparse

from mmengine.device import get_device
from rich.progress import track

from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.errors import add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, device, fraction, output_folder
from mmeffvit.inference import infer
from mmeffvit.utils.config import read_config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file of any task')
    parser.add_argument(
        'checkpoint', help='its weights: a file, a URL, mmeffvit://NAME, or published'
    )
    parser.add_argument('inputs', nargs='+', help='images, videos, folders of images, patterns')
    parser.add_argument('--out', required=True, type=output_folder, help='folder for the results')
    parser.add_argument(
        '--save-predictions', action='store_true', help='also write the predictions'
    )
    parser.add_argument(
        '--ids-from',
        metavar='JSON',
        help='save predictions under the image and category ids of this COCO file',
    )
    parser.add_argument(
        '--score-thr', type=fraction, help='least score of a detection that is drawn (0.3)'
    )
    parser.add_argument(
        '--device', type=device, default=get_device(), help='cpu, cuda, cuda:1, ...'
    )
    add_allow_partial(parser)
    return parser.parse_args()


def main() -> int:
    """Infer what can be read, then name what could not."""
    args = parse_args()
    with user_input(), partial_allowed(args.allow_partial):
        config = read_config(args.config)
        report = infer(
            config,
            args.checkpoint,
            args.inputs,
            args.out,
            device=args.device,
            score_threshold=args.score_thr,
            save_predictions=args.save_predictions,
            ids_from=args.ids_from,
            track=track,
        )
    return report.conclude(args.out)


if __name__ == '__main__':
    run_cli(main)
