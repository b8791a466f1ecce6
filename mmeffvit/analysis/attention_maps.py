"""What the attention layers of a backbone looked at in an image, as each of them explains it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from ..layers.explanation import AttentionMap, Look, cell_size

Explanations = list[tuple[str, list[AttentionMap]]]
_PANEL = 2.4  # inches


def image_area(backbone: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """The ``(H, W)`` that a backbone's grids cover: denoisers pad to their ``size_divisor``."""
    divisor = getattr(backbone, 'size_divisor', 1)
    return tuple(-(-side // divisor) * divisor for side in size)


def explain(
    backbone: nn.Module, image: Tensor, look: Look, layers: Sequence[int] | None = None
) -> Explanations:
    """Let the attention layers of a backbone explain themselves.

    Args:
        backbone (nn.Module): Any whose layers have ``explain``, see
            :mod:`mmeffvit.layers.explanation`.
        image (Tensor): Normalised image ``(1, 3, H, W)``.
        look (Look): The point and the tokens.
        layers (Sequence[int], optional): Which layers, in the order they run, negative ones from
            the end; all by default.

    Returns:
        list[tuple]: Name and maps of each layer; one without maps attends to nothing of its own.

    Raises:
        ValueError: If there is no such layer or token, or the backbone takes clips.
    """
    if getattr(backbone, 'num_frames', None) is not None:
        raise ValueError(f'{type(backbone).__name__} takes clips; attention is drawn over images.')
    calls: list[tuple] = []
    handles = [
        module.register_forward_pre_hook(
            lambda module, args, kwargs, name=name: calls.append((name, module, args, kwargs)),
            with_kwargs=True,
        )
        for name, module in backbone.named_modules()
        if hasattr(module, 'explain')
    ]
    if not handles:
        raise ValueError(f'No layer of {type(backbone).__name__} explains its attention.')
    try:
        with torch.no_grad():
            backbone(image)
    finally:
        for handle in handles:
            handle.remove()
    for index in layers or ():
        if not -len(calls) <= index < len(calls):
            raise ValueError(
                f'There is no attention layer {index}; they are 0 to {len(calls) - 1}.'
            )
    chosen = calls if layers is None else [calls[index] for index in layers]
    with torch.no_grad():
        return [
            (name, module.explain(*args, **kwargs, look=look))
            for name, module, args, kwargs in chosen
        ]


def draw_sheet(image: np.ndarray, explanations: Explanations, area: tuple[int, int]) -> Figure:
    """Draw every map over the grey image, a row per layer; a run without maps is one line.

    Colours run from each map's least to its greatest weight. A red box marks the query.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)`` uint8.
        explanations (list[tuple]): Of :func:`explain`.
        area (tuple[int, int]): Of :func:`image_area`.
    """
    rows = []
    for skipped, run in groupby(explanations, lambda entry: not entry[1]):
        run = list(run)
        if skipped:
            names = [name for name, _ in run]
            label = names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}'
            rows.append((f'{label}: no attention of its own, an earlier one is reused', []))
        else:
            rows.extend(run)
    height, width = image.shape[:2]
    columns = max(1, *(len(maps) for _, maps in rows))
    heights = [_PANEL * height / width + 0.3 if maps else 0.3 for _, maps in rows]
    figure = Figure((_PANEL * columns + 0.4, sum(heights)), layout='constrained')
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    step = max(1, round(width / 480))
    thumbnail = image[::step, ::step].mean(-1)
    for row, (name, maps) in enumerate(rows):
        if not maps:
            axes = figure.add_subplot(grid[row, :])
            axes.axis('off')
            axes.text(0, 0.5, name, fontsize=7, va='center')
        for column, attention in enumerate(maps):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(thumbnail, extent=(0, width, height, 0), cmap='gray')
            _draw_map(axes, attention, area)
            axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
            axes.set_title(attention.title, fontsize=7)
            if column == 0:
                axes.set_ylabel(name, fontsize=6)
    return figure


def _draw_map(axes, attention: AttentionMap, area: tuple[int, int]) -> None:
    weights = attention.weights.float().cpu()
    cell_height, cell_width = cell_size(area, weights.shape)
    height, width = weights.shape[0] * cell_height, weights.shape[1] * cell_width
    axes.imshow(
        weights, extent=(0, width, height, 0), alpha=0.65, cmap='viridis', interpolation='nearest'
    )
    if attention.query is not None:
        top, left, bottom, right = attention.query
        corner, sides = (
            (left * width, top * height),
            ((right - left) * width, (bottom - top) * height),
        )
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor='red'))
