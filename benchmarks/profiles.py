"""Where the time of any models goes: one forward pass on the CPU, by kind of operation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.models import find
from benchmarks.report import Results
from mmeffvit.analysis import input_shape
from mmeffvit.analysis.models import test_time_forward

#: Kinds of operations, by what PyTorch's profiler calls them.
KINDS = {
    'linear': r'addmm|::mm$|bmm|einsum',
    'fused attention': r'flash_attention|efficient_attention',
    'convolution': r'conv',
    'norm': r'norm',
    'activation': r'gelu|relu|silu|sigmoid|hardtanh',
    'copies': r'copy_|::cat$|pad|roll|contiguous',
    'softmax': r'softmax',
    'selection': r'topk|sort|gather|index|scatter',
    'elementwise': r'::(add|sub|mul|div|addcmul)_?$',
}
OTHER = 'other'
WARM_UP = 2


def kind_of(operation: str) -> str:
    """The kind of an operation of the profiler."""
    return next((kind for kind, names in KINDS.items() if re.search(names, operation)), OTHER)


def profile_forward(model: nn.Module, inputs: Tensor) -> Counter[str]:
    """Seconds of each kind of operation in one forward pass.

    Args:
        model (nn.Module): A backbone, a denoiser, or a whole model with one.
        inputs (Tensor): Images ``(B, 3, H, W)`` or clips ``(B, 3, T, H, W)``.
    """
    model.eval()
    with torch.no_grad():
        for _ in range(WARM_UP):
            test_time_forward(model, inputs)
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, acc_events=True) as profile:
            test_time_forward(model, inputs)
    seconds: Counter[str] = Counter()
    for event in profile.key_averages():
        seconds[kind_of(event.key)] += 1e-6 * event.self_cpu_time_total
    return seconds


def profile_models(names: Sequence[str], sizes: Sequence[tuple[int, ...]]) -> Results:
    """Profile models at sizes.

    Raises:
        UserError: If there is no such model.
    """
    models = {name: find(name) for name in names}
    records = []
    for name, model in models.items():
        for size in sizes:
            shape = input_shape(model, size)
            seconds = profile_forward(model, torch.randn(shape))
            records.append(dict(model=name, shape=shape, seconds=dict(seconds)))
    kinds = (*KINDS, OTHER)
    return Results(
        harness.environment(),
        ('model', 'input', 'ms', *kinds),
        [_row(record, kinds) for record in records],
        records,
        lambda figure: _draw(records, kinds, figure),
    )


def _shares(record: dict, kinds: Sequence[str]) -> list[float]:
    total = sum(record['seconds'].values())
    return [record['seconds'].get(kind, 0) / total for kind in kinds]


def _row(record: dict, kinds: Sequence[str]) -> list[str]:
    size = 'x'.join(str(side) for side in (record['shape'][0], *record['shape'][2:]))
    total = 1e3 * sum(record['seconds'].values())
    shares = (f'{100 * share:.0f}%' for share in _shares(record, kinds))
    return [record['model'], size, f'{total:.0f}', *shares]


def _draw(records: list[dict], kinds: Sequence[str], figure: Figure) -> None:
    """One bar per model, one colour per kind."""
    axes = figure.subplots()
    labels = [' '.join(_row(record, kinds)[:2]) for record in records]
    starts = [0.0] * len(records)
    for index, kind in enumerate(kinds):
        widths = [_shares(record, kinds)[index] for record in records]
        axes.barh(labels, widths, left=starts, label=kind)
        starts = [start + width for start, width in zip(starts, widths)]
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel='share of the time of a forward pass')
    figure.legend(loc='outside upper center', ncols=5, fontsize='small')
