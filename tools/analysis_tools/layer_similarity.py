#!/usr/bin/env python
"""Measure the similarity of the attention layers of a backbone, to choose layers to skip.

    tools/analysis_tools/layer_similarity.py configs/upernet_vit_s_ade20k.py images/ \
        --checkpoint vit_s.pth --out similarity

Any config with a ViT-like backbone will do. Writes <out>/features.csv (CKA of the layers' outputs),
<out>/attention.csv (cosine between the attention maps of the layers that have one) and
<out>/similarity.png, and suggests a range of layers to skip.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mmeffvit.analysis.attention import (
    ATTENTION,
    AttentionRecorder,
    has_class_token,
    mean_attention,
)
from mmeffvit.analysis.cka import (
    MIN_BATCH,
    MinibatchCKA,
    cosine_similarity,
    linear_cka,
    suggest_range,
)
from mmeffvit.checkpoints import partial_allowed
from mmeffvit.cli.errors import UserError, add_allow_partial, run_cli, user_input
from mmeffvit.cli.options import Parser, device, fraction, output_folder, pattern, positive
from mmeffvit.models import load_backbone
from mmeffvit.utils.atomic import atomic
from mmeffvit.utils.images import list_images, read_upright


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('images', type=Path, help='folder, searched recursively')
    parser.add_argument(
        '--checkpoint', help='weights of the model or of its backbone, or published'
    )
    parser.add_argument('--out', type=output_folder, default=Path('similarity'))
    parser.add_argument('--size', type=positive, nargs=2, default=(224, 224), metavar=('H', 'W'))
    parser.add_argument('--batch-size', type=positive, default=16, help=f'at least {MIN_BATCH}')
    parser.add_argument('--max-images', type=positive, default=512)
    parser.add_argument('--exact', action='store_true', help='CKA over all images at once')
    parser.add_argument('--threshold', type=fraction, default=0.8, help='of the suggestion')
    parser.add_argument('--heads', choices=('mean', 'concat'), default='mean')
    parser.add_argument(
        '--layers', type=pattern, default=ATTENTION, help='regular expression of module names'
    )
    parser.add_argument(
        '--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    add_allow_partial(parser)
    return parser.parse_args()


def main() -> None:
    """Measure, write, print."""
    args = parse_args()
    if args.batch_size < MIN_BATCH:
        raise UserError(f'--batch-size {args.batch_size} is too small; use {MIN_BATCH} or more.')
    paths = list_images(args.images)[: args.max_images]
    if len(paths) < MIN_BATCH:
        raise UserError(f'{args.images} holds {len(paths)} images; {MIN_BATCH} or more are needed.')
    with user_input(), partial_allowed(args.allow_partial):
        backbone, normalize = load_backbone(args.config, args.checkpoint)
        backbone.to(args.device)
    try:
        recorder = AttentionRecorder(backbone, args.layers)
    except ValueError as error:
        raise UserError(f'{error} Name the attention layers by --layers.') from None

    estimate, kept, cosine, count = MinibatchCKA(), [], 0.0, 0
    batches = [paths[i : i + args.batch_size] for i in range(0, len(paths), args.batch_size)]
    names, drawn = list(recorder.layers), []
    with recorder, torch.no_grad():
        for batch in track(batches, 'images', console=Console(stderr=True)):
            if len(batch) < MIN_BATCH and not args.exact:
                continue  # too few for the unbiased estimator
            backbone(load_images(batch, args.size, normalize).to(args.device))
            calls = {call.name: call for call in recorder.take()}
            features = [calls[name].features for name in names]
            if args.exact:
                kept.append([layer.flatten(1).cpu() for layer in features])
            else:
                estimate.update(features)
            maps = {
                name: mean_attention(calls[name], has_class_token(backbone), args.heads)
                for name in names
            }
            drawn = [name for name in names if maps[name] is not None]
            if drawn:
                cosine = cosine + cosine_similarity([maps[name] for name in drawn]).cpu()
            count += len(batch)
    cka = linear_cka([torch.cat(layer) for layer in zip(*kept)]) if args.exact else None
    cka = estimate.result() if cka is None else cka
    tables = {'features': (names, cka)}
    if drawn:
        tables['attention'] = (drawn, cosine / count)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, (layers, values) in tables.items():
        write_csv(args.out / f'{name}.csv', layers, values)
    draw(args.out / 'similarity.png', tables)
    report(cka, args.threshold)


def load_images(
    paths: list[Path], size: tuple[int, int], normalize: Callable[[np.ndarray], Tensor]
) -> Tensor:
    """Read images, resize them to one size and stack them to ``(m, 3, H, W)``."""
    images = []
    for path in paths:
        try:
            image = read_upright(path)
        except ValueError as error:
            raise UserError(f'{error} Remove it.') from None
        image = cv2.resize(image, tuple(size)[::-1], interpolation=cv2.INTER_CUBIC)
        images.append(normalize(image))
    return torch.stack(images)


def write_csv(path: Path, layers: list[str], values: Tensor) -> None:
    """A square table with the layers' names."""
    with atomic(path) as partial, partial.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['layer', *layers])
        for name, row in zip(layers, values.tolist()):
            writer.writerow([name, *(f'{value:.6f}' for value in row)])


def draw(path: Path, tables: dict[str, tuple[list[str], Tensor]]) -> None:
    """Heat maps side by side."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    titles = {'features': 'CKA of attention outputs', 'attention': 'Cosine of attention maps'}
    figure, axes = plt.subplots(1, len(tables), figsize=(6 * len(tables), 5), squeeze=False)
    for axis, (name, (layers, values)) in zip(axes[0], tables.items()):
        image = axis.imshow(values, vmin=0, vmax=1, cmap='viridis')
        labels = [layer.removesuffix('.attn') for layer in layers]
        axis.set_xticks(range(len(labels)), labels, rotation=90)
        axis.set_yticks(range(len(labels)), labels)
        axis.set_title(titles[name])
        figure.colorbar(image, ax=axis)
    figure.tight_layout()
    with atomic(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)


def report(cka: Tensor, threshold: float) -> None:
    """Print each layer's mean similarity to those before it, and a range to skip."""
    for layer in range(1, len(cka)):
        print(f'layer {layer}: mean CKA with the layers before it {cka[layer, :layer].mean():.3f}')
    found = suggest_range(cka, threshold)
    if found is None:
        print(f'no two neighbours have CKA above {threshold}: nothing to skip')
    else:
        print(f'suggested skip_layers: {found[0]} to {found[1]} (source: layer {found[0] - 1})')


if __name__ == '__main__':
    run_cli(main)
