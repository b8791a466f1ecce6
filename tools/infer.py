#!/usr/bin/env python
"""Run a trained model over images, folders, patterns and videos, and draw what it finds.

    tools/infer.py configs/retinanet_quadtree_b2_coco.py epoch_12.pth street.jpg 'photos/**/*.jpg' \
        --out results --save-predictions

Detectors, segmentors and classifiers write pictures to OUT/vis; with --save-predictions also
OUT/preds/predictions.json (COCO's format, or the scores of the classes) or, for segmentors, a PNG
of class indices per image. Denoisers write what they denoise to OUT.

Exit code 0: all done; 1: some files could not be used, they are named; 2: nothing was tried.
"""

import argparse

from mmengine.device import get_device
from rich.progress import track

from mmeffvit.engine.launch import read_config
from mmeffvit.inference import infer
from mmeffvit.utils.cli import UserError, run_cli


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of any task')
    parser.add_argument('checkpoint', help='its weights, .pth or .safetensors')
    parser.add_argument('inputs', nargs='+', help='images, videos, folders of images, patterns')
    parser.add_argument('--out', required=True, help='folder for the results')
    parser.add_argument(
        '--save-predictions', action='store_true', help='also write what was predicted'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='draw detections from this score on'
    )
    parser.add_argument('--device', default=get_device(), help='cpu, cuda, cuda:1, ...')
    return parser.parse_args()


def main() -> int:
    """Infer what can be read, then name what could not."""
    args = parse_args()
    config = read_config(args.config)
    try:
        report = infer(
            config,
            args.checkpoint,
            args.inputs,
            args.out,
            device=args.device,
            score_threshold=args.score_thr,
            save_predictions=args.save_predictions,
            track=track,
        )
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    return report.conclude(args.out)


if __name__ == '__main__':
    run_cli(main)
