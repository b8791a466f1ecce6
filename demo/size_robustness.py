#!/usr/bin/env python
"""Measure LookupViT at sizes it was not trained at, with and without row normalization.

A lookup token receives a sum whose weights add up to M / N, so a model trained at one number of
compressed (M) and lookup tokens (N) feeds less context back if only N grows. Dividing by
that sum (reuse_norm='row') removes the dependence. Both are trained here to segment shapes at one
size, from one seed, and tested at others; minutes on a CPU.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from mmeffvit.backbones import LookupViT
from mmeffvit.backbones.lookupvit import OUT_TOKENS
from mmeffvit.cli.errors import run_cli
from mmeffvit.cli.options import Parser, natural, output_file, positive
from mmeffvit.layers.lookup import REUSE_NORMS
from mmeffvit.utils.atomic import write_json
from shapes import CLASSES
from shapes.scene import draw_scene

SIDE, PATCH, TRAINED, WIDTH = 64, 4, 4, 64
#: Side of the image over SIDE, side of the compressed grid.
TESTED = ((1, 4), (1, 8), (2, 4), (2, 8))
BATCH = 16


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--steps', type=positive, default=500, help='training steps per model')
    parser.add_argument('--images', type=positive, default=800, help='training images')
    parser.add_argument('--val-images', type=positive, default=100)
    parser.add_argument('--seeds', type=natural, nargs='+', default=[0])
    parser.add_argument('--out-tokens', choices=OUT_TOKENS, default='lookup')
    parser.add_argument('--json', type=output_file, help='write the figures into this file')
    return parser.parse_args()


def main() -> None:
    """Train, test, print."""
    args = parse_args()
    console = Console(stderr=True)
    train = _draw(args.images, 0, console)
    val = _draw(args.val_images, 1, console)
    found = {kind: [] for kind in REUSE_NORMS}
    for seed in args.seeds:
        for kind in REUSE_NORMS:
            model = _train(kind, args.out_tokens, train, args.steps, seed, console)
            found[kind].append([_test(model, val, *where) for where in TESTED])
    table = Table('reuse_norm', *(_title(*where) for where in TESTED))
    for kind, ious in found.items():
        table.add_row(kind, *(f'{iou:.3f}' for iou in np.mean(ious, axis=0)))
    Console().print(table)
    if args.json:
        tested = [_title(*where) for where in TESTED]
        write_json(args.json, dict(tested=tested, miou=found), indent=1)


class Segmentor(nn.Module):
    """A small LookupViT and a linear classifier per lookup token."""

    def __init__(self, reuse_norm: str, out_tokens: str) -> None:
        super().__init__()
        self.backbone = LookupViT(
            dict(embed_dims=WIDTH, depth=3, num_heads=2),
            (TRAINED, TRAINED),
            img_size=SIDE,
            patch_size=PATCH,
            attention=dict(reuse_norm=reuse_norm),
            out_tokens=out_tokens,
        )
        for module in self.backbone.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        self.head = nn.Conv2d(WIDTH, len(CLASSES) + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes, H, W)`` for images ``(B, 3, H, W)``."""
        logits = self.head(self.backbone(x)[0])
        return F.interpolate(logits, size=x.shape[2:], mode='bilinear')


def _draw(count: int, split: int, console: Console) -> tuple[Tensor, Tensor]:
    images, labels = [], []
    for i in track(range(count), f'drawing {count} images', console=console):
        rng = np.random.default_rng([split, i])
        scene = draw_scene(rng, (SIDE, SIDE), max_objects=2, radii=(0.2, 0.35))
        images.append(torch.from_numpy(scene.image).permute(2, 0, 1))
        labels.append(torch.from_numpy(scene.label_map()).long())
    return torch.stack(images).float() / 64 - 2, torch.stack(labels)


def _train(
    kind: str, out_tokens: str, data: tuple[Tensor, Tensor], steps: int, seed: int, console: Console
) -> Segmentor:
    torch.manual_seed(seed)
    model = Segmentor(kind, out_tokens).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    images, labels = data
    for _ in track(range(steps), f'training with {kind!r}', console=console):
        chosen = torch.randint(len(images), (BATCH,))
        x, y = images[chosen], labels[chosen]
        if torch.rand(()) < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return model.eval()


@torch.no_grad()
def _test(model: Segmentor, data: tuple[Tensor, Tensor], scale: int, size: int) -> float:
    """Mean IoU on images enlarged by ``scale`` with ``size`` x ``size`` compressed tokens."""
    model.backbone.set_compressed_size((size, size))
    count = len(CLASSES) + 1
    confusion = torch.zeros(count, count)
    for x, y in zip(data[0].split(BATCH), data[1].split(BATCH)):
        x = F.interpolate(x, scale_factor=scale, mode='bilinear')
        predicted = F.interpolate(model(x), size=y.shape[1:], mode='bilinear').argmax(1)
        pairs = (y * count + predicted).flatten()
        confusion += torch.bincount(pairs, minlength=count**2).view(count, count)
    hits = confusion.diagonal()
    return (hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean().item()


def _title(scale: int, size: int) -> str:
    side = SIDE * scale
    cells = (side // PATCH) ** 2
    trained = ' (trained)' if (scale, size) == (1, TRAINED) else ''
    return f'{side} px {size}x{size}, M/N = 1/{cells // size**2}{trained}'


if __name__ == '__main__':
    run_cli(main)
