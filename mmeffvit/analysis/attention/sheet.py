"""Drawing attention maps over an image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from ...ops.layout import divide_up
from .protocol import AttentionMap, cell_size
from .recorder import LayerExplanation

_PANEL = 2.4  # inches


def image_area(backbone: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Return the ``(H, W)`` that a backbone's grids cover: denoisers pad to ``size_divisor``."""
    divisor = getattr(backbone, 'size_divisor', 1)
    height, width = (divide_up(side, divisor) * divisor for side in size)
    return height, width


def draw_sheet(
    image: np.ndarray, explanations: Sequence[LayerExplanation], area: tuple[int, int]
) -> Figure:
    """Draw every map over the grey image, a row per layer; layers without maps are one line.

    The colours of a map range from its smallest to its largest weight. A red box marks the query.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)`` uint8.
        explanations (Sequence[LayerExplanation]): From :func:`explain_backbone`.
        area (tuple[int, int]): ``(H, W)`` from :func:`image_area`.

    Returns:
        Figure: To be saved.
    """
    rows: list[tuple[str, list[AttentionMap]]] = []
    for note, group in groupby(explanations, lambda explanation: explanation.note):
        run = list(group)
        if note:
            names = [explanation.name for explanation in run]
            label = names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}'
            rows.append((f'{label}: {note}', []))
        else:
            rows.extend((explanation.name, explanation.maps) for explanation in run)
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
