"""Time and memory of models per pixel as the image grows, relative to the smallest size.

A model whose cost is linear in the image stays at 1. A name may carry options of the attention,
such as ``quadtree_b2:max_coarse_grid=16``.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from torch import nn

from benchmarks import harness
from benchmarks.models import find
from benchmarks.report import Results
from mmeffvit import get_model
from mmeffvit.cli.errors import UserError, user_input

COLUMNS = ('model', 'side', 'min ms', 'time per pixel', 'peak MiB', 'memory per pixel')


def measure_growth(
    names: Sequence[str], sides: Sequence[int], rounds: int, longest: float
) -> Results:
    """Measure one forward pass at each size.

    Args:
        names (Sequence[str]): Models.
        sides (Sequence[int]): Sides of square images; the first is the one compared with.
        rounds (int): Timed passes of a size.
        longest (float): Seconds; a model is not run at sizes at which its cost, if it grew with the
            square of the pixels, would exceed them.

    Raises:
        UserError: If a model or option does not exist.
    """
    models = {name: build(name) for name in names}
    clock = harness.choose_clock('cpu')
    records = []
    for name, model in track(models.items(), 'measuring', console=Console(stderr=True)):
        last = None
        for side in sides:
            if last and last['time'] * (side / last['side']) ** 4 > longest:
                break
            x = torch.randn(1, 3, side, side)

            def run(model: nn.Module = model, x: torch.Tensor = x) -> None:
                with torch.no_grad():
                    model(x)

            measured = harness.measure({name: run}, rounds, clock, warm_up=1)[name]
            last = dict(
                model=name, side=side, time=measured.minimum, times=measured.times,
                peak=measured.peak,
            )  # fmt: skip
            records.append(last)
    return Results(
        harness.environment(),
        COLUMNS,
        [_row(record, _first(records, record)) for record in records],
        records,
        lambda figure: draw(records, figure),
    )


def build(name: str) -> nn.Module:
    """Build ``model`` or ``model:option=value,...`` in eval mode."""
    model, _, text = name.partition(':')
    if not text:
        return find(model).eval()
    try:
        pairs = (option.split('=') for option in text.split(','))
        options = {key: literal_eval(value) for key, value in pairs}
    except (ValueError, SyntaxError) as error:
        raise UserError(f'{name} must be like quadtree_b2:max_coarse_grid=16.') from error
    with user_input():
        return get_model(model, attention=options).eval()


def _first(records: list[dict], record: dict) -> dict:
    return next(other for other in records if other['model'] == record['model'])


def per_pixel(record: dict, first: dict, key: str) -> float:
    """Growth of a figure per pixel since the first size."""
    return record[key] / first[key] * (first['side'] / record['side']) ** 2


def _row(record: dict, first: dict) -> list[str]:
    return [
        record['model'],
        str(record['side']),
        f'{1e3 * record["time"]:.0f}',
        f'{per_pixel(record, first, "time"):.2f}',
        f'{record["peak"] / 2**20:.0f}',
        f'{per_pixel(record, first, "peak"):.2f}',
    ]


def draw(records: list[dict], figure: Figure) -> None:
    """Lines over the side, one per model."""
    figure.set_size_inches(12, 5)
    axes = figure.subplots(1, 2)
    for name in dict.fromkeys(record['model'] for record in records):
        own = [record for record in records if record['model'] == name]
        for axis, key in zip(axes, ('time', 'peak')):
            growth = [per_pixel(record, own[0], key) for record in own]
            axis.plot([record['side'] for record in own], growth, marker='o', label=name)
    sides = sorted({record['side'] for record in records})
    for axis, key in zip(axes, ('time', 'peak memory')):
        axis.set(
            title=f'{key} per pixel / at {sides[0]} px', xlabel='side of the image (px)',
            xscale='log', yscale='log', xticks=sides, xticklabels=sides,
        )  # fmt: skip
        axis.minorticks_off()
        axis.grid(alpha=0.4)
    axes[1].legend(loc='center left', bbox_to_anchor=(1, 0.5), fontsize='small')
