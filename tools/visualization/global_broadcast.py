#!/usr/bin/env python
"""Draw which parts of an image attend to chosen global tokens (DualToken-ViT, figure 4).

    tools/visualization/global_broadcast.py CONFIG CHECKPOINT cat.jpg out.png
    tools/visualization/global_broadcast.py CONFIG CHECKPOINT cat.jpg out.png --tokens 3,3 0,6

Any config with a DualTokenViT backbone, and a checkpoint of its whole model or of the backbone
alone. The image is used at its own size unless --size is given.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

import mmeffvit  # noqa: F401  (configs may inherit by package name)
from mmeffvit.analysis.broadcast import draw_broadcast, global_broadcast
from mmeffvit.checkpoints import read_state
from mmeffvit.registry import MODELS
from mmeffvit.utils.cli import UserError, run_cli

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('image', type=Path)
    parser.add_argument('out', type=Path, help='picture to write')
    parser.add_argument(
        '--tokens',
        nargs='+',
        metavar='ROW,COLUMN',
        help='places in the token grid; the centre and the middles of its sides by default',
    )
    parser.add_argument('--stage', type=int, default=-1)
    parser.add_argument('--block', type=int, default=-1)
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='resize the image')
    return parser.parse_args()


def main() -> None:
    """Run the backbone and draw."""
    args = parse_args()
    if not Path(args.config).is_file():
        raise UserError(f'There is no config at {args.config}.')
    image = cv2.imread(str(args.image))
    if image is None:
        raise UserError(f'{args.image} cannot be read as an image.')
    if args.size:
        image = cv2.resize(image, (args.size[1], args.size[0]), interpolation=cv2.INTER_AREA)
    try:
        backbone = build_backbone(Config.fromfile(args.config), args.checkpoint)
        weights = global_broadcast(backbone, normalised(image), args.stage, args.block)
    except ValueError as error:
        raise UserError(str(error)) from error
    token_size = backbone.token_size
    picture = draw_broadcast(
        image, weights.numpy(), token_size, parse_tokens(args.tokens, token_size)
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out.suffix not in ('.png', '.jpg') or not cv2.imwrite(str(args.out), picture):
        raise UserError(f'{args.out} cannot be written; name a .png or .jpg file.')
    print(f'{args.out}: {picture.shape[1]}x{picture.shape[0]}')


def build_backbone(config: Config, checkpoint: Path) -> nn.Module:
    """Build a config's backbone with the weights of a checkpoint of it or of its whole model."""
    backbone = MODELS.build({'_scope_': 'mmeffvit', **config.model.backbone, 'init_cfg': None})
    state = read_state(checkpoint)
    prefix = 'backbone.' if any(key.startswith('backbone.') for key in state) else ''
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    # Norms after the last block do not matter here, and classifiers' differ from detectors'.
    try:
        missing = backbone.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise ValueError(
            f'{checkpoint} does not fit {config.filename}: {str(error).splitlines()[-1].strip()}'
        ) from None
    missing = [key for key in missing if not key.startswith('norm')]
    if missing:
        raise ValueError(
            f'{checkpoint} has no {missing[0]} ({len(missing)} keys are missing); convert it with '
            'tools/convert_checkpoint.py, or give the config that it was trained with.'
        )
    return backbone.eval()


def normalised(image: np.ndarray) -> Tensor:
    """BGR image to a normalised RGB batch ``(1, 3, H, W)``."""
    rgb = (image[..., ::-1].astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(rgb).permute(2, 0, 1)[None]


def parse_tokens(given: list[str] | None, token_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Read ``ROW,COLUMN`` pairs, or choose the centre and the middles of the sides."""
    rows, columns = token_size
    if given is None:
        middle = (rows // 2, columns // 2)
        sides = [(0, middle[1]), (middle[0], 0), (middle[0], columns - 1), (rows - 1, middle[1])]
        return list(dict.fromkeys([middle, *sides]))
    tokens = []
    for text in given:
        parts = text.split(',')
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise UserError(f'--tokens {text} must be ROW,COLUMN, such as 3,3.')
        row, column = int(parts[0]), int(parts[1])
        if row >= rows or column >= columns:
            raise UserError(f'--tokens {text} is outside the grid of {rows}x{columns} tokens.')
        tokens.append((row, column))
    return tokens


if __name__ == '__main__':
    run_cli(main)
