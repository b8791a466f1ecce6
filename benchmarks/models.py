"""Latency, throughput, training step and peak memory of any models of this package.

Models are names of ``mmeffvit.list_models()`` or config files. All that shares input, precision and
device is timed in turn, round by round, so that what disturbs one disturbs all.

- ``latency``: one forward pass without post-processing, in eval mode.
- ``training``: forward, backward and an AdamW step (of rate 0, so that weights stay), on the mean
  square of the outputs; detectors and segmentors too, without their losses.
- ``eager``; ``compiled`` by ``torch.compile`` for the very size; ``deploy`` after
  ``switch_to_deploy``, for latency only. What compiled and deployed models return is compared with
  eager first.
- Half precisions run under autocast.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mmengine.model import revert_sync_batchnorm
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.report import Results
from mmeffvit.analysis import Complexity, input_shape
from mmeffvit.analysis.flops import count_complexity
from mmeffvit.analysis.models import test_time_forward
from mmeffvit.cli.errors import UserError, user_input
from mmeffvit.models import find_model

#: With their markers in drawings.
MODES = {'eager': 'o', 'compiled': '^', 'deploy': 's', 'graph': 'D'}
#: Modes of inference.
FROZEN_MODES = ('deploy', 'graph')
MEASURES = ('latency', 'training')
DTYPES = {name: getattr(torch, name) for name in ('float32', 'bfloat16', 'float16')}
#: Largest relative difference from eager; top-k flips where scores tie within rounding.
TOLERANCE = 5e-2
ROOT = Path(__file__).parents[1]
COLUMNS = (
    'model', 'mode', 'measure', 'input', 'dtype', 'device', 'params (M)', 'FLOPs (G)', 'median ms',
    'spread', 'images/s', 'peak MiB', 'of matmul', 'error',
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What the candidates of one comparison share."""

    device: str
    dtype: str
    measure: str
    shape: tuple[int, ...]

    @property
    def input(self) -> str:
        """Batch and size, such as ``1x224x224``."""
        return 'x'.join(str(side) for side in (self.shape[0], *self.shape[2:]))

    def __str__(self) -> str:
        return f'{self.measure}, {self.input}, {self.dtype}, {self.device}'


@dataclass
class Entry:
    """One model in one mode and setting.

    Attributes:
        model (str): Its name.
        mode (str): Of :data:`MODES`.
        setting (Setting): See there.
        size (Complexity): Of one image.
        measured (Measurement, optional): None if it failed.
        error (float, optional): Relative difference from eager.
        failure (str): Why it failed.
    """

    model: str
    mode: str
    setting: Setting
    size: Complexity
    measured: harness.Measurement | None = None
    error: float | None = None
    failure: str = ''

    @property
    def images_per_second(self) -> float:
        """Throughput at the median."""
        return self.setting.shape[0] / self.measured.median


def benchmark(
    names: Sequence[str],
    *,
    sizes: Sequence[tuple[int, ...]],
    batches: Sequence[int],
    dtypes: Sequence[str],
    devices: Sequence[str],
    modes: Sequence[str],
    measures: Sequence[str],
    rounds: int,
    wall: bool,
    before_timing: Callable[[], object] = lambda: None,
) -> Results:
    """Measure models.

    Args:
        names (Sequence[str]): Models.
        sizes (Sequence[tuple[int, ...]]): Of the input, without batch and channels.
        batches (Sequence[int]): Images in a batch.
        dtypes (Sequence[str]): Of :data:`DTYPES`.
        devices (Sequence[str]): PyTorch's names.
        modes (Sequence[str]): Of :data:`MODES`.
        measures (Sequence[str]): Of :data:`MEASURES`.
        rounds (int): Timed rounds.
        wall (bool): The wall's time on CPUs too.
        before_timing (Callable): Called when all candidates of a setting are compiled and compared,
            before they are timed.

    Raises:
        UserError: If a model, device or size does not exist or fit, before anything is measured.
    """
    for device in devices:
        check_device(device)
    models = {name: find(name) for name in names}
    groups: dict[Setting, list[Entry]] = {}
    for (name, model), size in itertools.product(models.items(), sizes):
        shape, cost = _cost(name, model, size)
        for *shared, batch in itertools.product(devices, dtypes, measures, batches):
            setting = Setting(*shared, (batch, *shape[1:]))
            groups.setdefault(setting, []).extend(
                Entry(name, mode, setting, cost)
                for mode in modes
                if mode not in FROZEN_MODES or setting.measure == 'latency'
            )

    entries: list[Entry] = []
    speeds: dict[tuple[str, str], float] = {}
    for setting, group in track(groups.items(), 'measuring', console=Console(stderr=True)):
        clock = harness.choose_clock(setting.device, wall)
        hardware = (setting.device, setting.dtype)
        if hardware not in speeds:
            speeds[hardware] = harness.matmul_speed(setting.device, DTYPES[setting.dtype], clock)
        _measure(setting, group, models, rounds, clock, before_timing)
        entries += group
    environment = harness.environment()
    for (device, dtype), speed in speeds.items():
        environment[f'matmul, {device} {dtype}'] = f'{speed / 1e9:.4g} G multiply-adds/s'
    return Results(
        environment,
        COLUMNS,
        [_row(entry, speeds) for entry in entries],
        [_record(entry) for entry in entries],
        lambda figure: _draw(figure, entries, {name: _published(name) for name in names}),
    )


def check_device(device: str) -> None:
    """Raise a UserError if there is no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'Device {device} cannot be used here: {reason}') from error


def find(name: str) -> nn.Module:
    """Build the model that a user names; a UserError if there is none."""
    with user_input():
        return revert_sync_batchnorm(find_model(name))  # SyncBN needs several processes


def _cost(name: str, model: nn.Module, size: Sequence[int]) -> tuple[tuple[int, ...], Complexity]:
    try:
        shape = input_shape(model, size)
        return shape, count_complexity(model, shape, test_time_forward)
    except (ValueError, RuntimeError) as error:
        side = 'x'.join(map(str, size))
        raise UserError(f'{name} takes no input of --sizes {side}: {error}') from error


def _measure(
    setting: Setting,
    group: list[Entry],
    models: dict[str, nn.Module],
    rounds: int,
    clock: harness.Clock,
    before_timing: Callable[[], object],
) -> None:
    x = torch.rand(setting.shape, device=setting.device)
    torch.compiler.reset()  # the last group's models do not come again
    runs: dict[int, Callable[[], list[Tensor]]] = {}
    expected: dict[str, list[Tensor]] = {}
    for index, entry in enumerate(group):
        model = models[entry.model].to(setting.device).train(setting.measure == 'training')
        try:
            run = make_run(model, entry.mode, setting, x)
            outputs = run()
        except Exception as error:  # compilers raise what they like; the others are still measured
            entry.failure = (str(error) or type(error).__name__).splitlines()[0]
            continue
        if setting.measure == 'latency':
            entry.error = harness.difference(outputs, expected.setdefault(entry.model, outputs))
            if not entry.error <= TOLERANCE:
                entry.failure = f'it differs from eager by {entry.error:.0e}'
                continue
        runs[index] = run
    before_timing()
    for index, measured in harness.measure(runs, rounds, clock, setting.device).items():
        group[index].measured = measured
    for model in models.values():
        model.to('cpu')


def make_run(
    model: nn.Module, mode: str, setting: Setting, x: Tensor
) -> Callable[[], list[Tensor]]:
    """A function that runs a model once, or trains it for a step, and returns its outputs.

    Args:
        model (nn.Module): On the setting's device.
        mode (str): Of :data:`MODES`; ``'graph'`` replays a CUDA graph of eager, in which no kernel
            waits for Python.
        setting (Setting): Precision and measure.
        x (Tensor): Input.
    """
    if mode == 'deploy':
        model = copy.deepcopy(model)
        for module in list(model.modules()):
            if hasattr(module, 'switch_to_deploy'):
                module.switch_to_deploy()

    def forward(x: Tensor) -> object:
        return test_time_forward(model, x)

    if mode == 'compiled':
        # All models share this function's code, and past the limit they would silently run eager.
        torch._dynamo.config.cache_size_limit = 256
        forward = torch.compile(forward, dynamic=False)
    precision = torch.autocast(
        torch.device(setting.device).type,
        DTYPES[setting.dtype],
        enabled=setting.dtype != 'float32',
    )

    def infer() -> list[Tensor]:
        with torch.no_grad(), precision:
            return harness.tensors(forward(x))

    if mode == 'graph':
        return _captured(infer, setting.device)
    if setting.measure == 'latency':
        return infer
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0)

    def train() -> list[Tensor]:
        with precision:
            loss = sum(out.float().square().mean() for out in harness.tensors(forward(x)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return [loss.detach()]

    return train


def _captured(run: Callable[[], list[Tensor]], device: str) -> Callable[[], list[Tensor]]:
    if not device.startswith('cuda'):
        raise ValueError(f'CUDA graphs need a GPU, not {device}.')
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()

    def replay() -> list[Tensor]:
        graph.replay()
        return outputs

    return replay


def _row(entry: Entry, speeds: dict[tuple[str, str], float]) -> list[str]:
    setting, size = entry.setting, entry.size
    row = [
        Path(entry.model).stem,
        entry.mode,
        setting.measure,
        setting.input,
        setting.dtype,
        setting.device,
        f'{size.params / 1e6:.2f}',
        f'{size.macs / 1e9:.3g}',
    ]
    if entry.measured is None:
        return [*row, *[''] * 5, 'failed']
    share = size.macs * entry.images_per_second / speeds[setting.device, setting.dtype]
    return [
        *row,
        f'{1e3 * entry.measured.median:.1f}',
        f'{100 * entry.measured.spread:.0f}%',
        f'{entry.images_per_second:.2f}',
        f'{entry.measured.peak / 2**20:.1f}',
        f'{100 * share:.0f}%' if setting.measure == 'latency' else '',
        f'{entry.error:.0e}' if entry.error else '',
    ]


def _record(entry: Entry) -> dict:
    setting, measured = entry.setting, entry.measured
    record = dict(
        model=entry.model,
        mode=entry.mode,
        measure=setting.measure,
        shape=setting.shape,
        dtype=setting.dtype,
        device=setting.device,
        parameters=entry.size.params,
        multiply_adds=entry.size.macs,
    )
    if measured is None:
        return dict(record, failure=entry.failure)
    return dict(
        record,
        times=measured.times,
        median=measured.median,
        spread=measured.spread,
        images_per_second=entry.images_per_second,
        peak=measured.peak,
        error=entry.error,
    )


def _published(name: str) -> tuple[str, float] | None:
    """The first figure that the metafile of a config quotes, with its name."""
    for path in (ROOT / 'configs' / 'metafiles').glob('*.yml'):
        for entry in yaml.safe_load(path.read_text())['Models']:
            if (ROOT / entry['Config']).resolve() == Path(name).resolve():
                for result in entry.get('Results', []):
                    for metric, value in result['Metrics'].items():
                        if isinstance(value, int | float):
                            return f'{metric}, {result["Dataset"]}, as published', value
    return None


def _draw(
    figure: Figure, entries: Iterable[Entry], published: dict[str, tuple[str, float] | None]
) -> None:
    """One line of axes per setting: FLOPs, and what is published if anything is, against time."""
    groups: dict[Setting, list[Entry]] = {}
    for entry in entries:
        if entry.measured is not None:
            groups.setdefault(entry.setting, []).append(entry)
    metrics = dict.fromkeys(found[0] for found in published.values() if found)
    columns = 1 + len(metrics)
    figure.set_size_inches(2 + 5 * columns, 4 * max(1, len(groups)))
    grid = figure.subplots(max(1, len(groups)), columns, squeeze=False)
    colours = {name: colormaps['tab20'](i % 20) for i, name in enumerate(published)}
    for axes, (setting, group) in zip(grid, groups.items()):
        costs = {entry.model: entry.size.macs * setting.shape[0] / 1e9 for entry in group}
        _scatter(axes[0], group, costs, colours)
        axes[0].set(ylabel='FLOPs (G)', ylim=(0, None))
        for axis, metric in zip(axes[1:], metrics):
            quoted = {n: found[1] for n, found in published.items() if found and found[0] == metric}
            _scatter(axis, [entry for entry in group if entry.model in quoted], quoted, colours)
            axis.set(ylabel=metric)
        for axis in axes:
            axis.set(title=str(setting), xlabel='median time of a batch (ms)', xlim=(0, None))
    modes = {entry.mode for group in groups.values() for entry in group}
    keys = [
        Line2D([], [], ls='', marker='o', color=c, label=Path(n).stem) for n, c in colours.items()
    ]
    keys += [
        Line2D([], [], ls='', marker=MODES[m], color='black', label=m) for m in MODES if m in modes
    ]
    figure.legend(handles=keys, loc='outside right upper', fontsize='small')


def _scatter(
    axes: Axes, group: Sequence[Entry], heights: dict[str, float], colours: dict[str, tuple]
) -> None:
    """Medians, and lines between quartiles."""
    for entry in group:
        height, colour = heights[entry.model], colours[entry.model]
        times = [1e3 * time for time in entry.measured.quartiles]
        axes.plot(times, [height, height], color=colour, linewidth=1)
        axes.plot(1e3 * entry.measured.median, height, MODES[entry.mode], color=colour, alpha=0.8)
