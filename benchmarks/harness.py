"""Interleaved comparisons: time and peak memory as ratios inside one process.

Rounds go A, B, C, A, B, C, ...; time on a CPU is that of this process on one thread by default,
which neighbours on the machine do not disturb, and on a GPU the wall's, synchronised. A ratio is
one of minima, and is withheld where minima and medians disagree on the winner. Outputs and
gradients are compared before anything is timed.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

Clock = Callable[[], float]
Key = TypeVar('Key', bound=Hashable)
#: ``'step'`` calls a candidate as it is, for example for a whole training step.
MODES = ('forward', 'forward+backward', 'step')
WARM_UP = 2


@dataclass
class Case:
    """One comparison.

    Attributes:
        name (str): What is compared, with its size.
        inputs (Callable): Makes the input tensors, the same for all candidates.
        candidates (dict[str, Callable]): Name to a module or function of the inputs; the first is
            ours.
        modes (Sequence[str]): Of :data:`MODES`.
        tolerance (float): Largest norm of a difference of outputs, relative to the norm, that
            candidates named in ``equal`` may have from ours; gradients may have ten times that.
        equal (Sequence[str]): Candidates that compute the same numbers as ours.
        warm_up (int): Rounds before those that are timed.
    """

    name: str
    inputs: Callable[[], Sequence[Tensor]]
    candidates: dict[str, Callable]
    modes: Sequence[str] = MODES[:2]
    tolerance: float = 1e-5
    equal: Sequence[str] = ()
    warm_up: int = WARM_UP


@dataclass
class Measurement:
    """Times of one candidate in seconds, peak memory in bytes above its start."""

    times: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def minimum(self) -> float:
        """Best time."""
        return min(self.times)

    @property
    def median(self) -> float:
        """Median time."""
        return statistics.median(self.times)

    @property
    def quartiles(self) -> tuple[float, float]:
        """What half of the times lie between."""
        low, _, high = statistics.quantiles(self.times, n=4)
        return low, high

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        low, high = self.quartiles
        return (high - low) / self.median


@dataclass
class Result:
    """Measurements of one case in one mode."""

    case: str
    mode: str
    measurements: dict[str, Measurement]
    errors: dict[str, float]

    def ratio(self, name: str) -> float | None:
        """How many times longer a candidate takes than ours; None if the winner is unclear."""
        ours, other = next(iter(self.measurements.values())), self.measurements[name]
        by_minimum, by_median = other.minimum / ours.minimum, other.median / ours.median
        return by_minimum if (by_minimum > 1) == (by_median > 1) else None

    def memory_ratio(self, name: str) -> float:
        """How many times the memory of ours a candidate needs at its peak."""
        ours = next(iter(self.measurements.values()))
        return self.measurements[name].peak / max(1, ours.peak)


def run_case(
    case: Case,
    mode: str,
    rounds: int = 7,
    clock: Clock = time.process_time,
    device: str = 'cpu',
) -> Result:
    """Check a case for equality, then measure it; its candidates are on the device."""
    with torch.device(device):
        made = case.inputs()
    inputs = [x.detach().requires_grad_(mode == MODES[1]) for x in made]
    runs = {name: _runner(candidate, inputs, mode) for name, candidate in case.candidates.items()}
    outputs = {name: run() for name, run in runs.items() if name in (*case.equal, next(iter(runs)))}
    ours = outputs.pop(next(iter(runs)))
    errors = {name: difference(ours, other) for name, other in outputs.items()}
    for name, error in errors.items():
        limit = case.tolerance * (1 if mode == MODES[0] else 10)
        if not error <= limit:
            raise AssertionError(f'{case.name}: {name} differs from ours by {error:.1e} > {limit}')
    del outputs, ours

    return Result(case.name, mode, measure(runs, rounds, clock, device, case.warm_up), errors)


def measure(
    runs: Mapping[Key, Callable],
    rounds: int,
    clock: Clock,
    device: str = 'cpu',
    warm_up: int = WARM_UP,
) -> dict[Key, Measurement]:
    """Warm up, then time all runs in turn, round by round; last, the peak memory of each."""
    measurements = {name: Measurement() for name in runs}
    for index in range(warm_up + rounds):
        for name, run in runs.items():
            start = clock()
            run()
            if index >= warm_up:
                measurements[name].times.append(clock() - start)
    for name, run in runs.items():
        measurements[name].peak = peak_memory(run, device)
    return measurements


def choose_clock(device: str, wall: bool = False) -> Clock:
    """CPU time, or the wall's, which on a GPU waits for it."""
    if device.startswith('cuda'):

        def synchronised() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return synchronised
    return time.perf_counter if wall else time.process_time


def matmul_speed(device: str, dtype: torch.dtype, clock: Clock) -> float:
    """Multiply-adds per second of one large matrix product: what models can be held against."""
    side = 8192 if device.startswith('cuda') else 1024
    a, b = torch.rand(2, side, side, device=device, dtype=dtype)
    return side**3 / measure({'matmul': lambda: a @ b}, 5, clock, device)['matmul'].minimum


def peak_memory(run: Callable, device: str = 'cpu') -> int:
    """Peak bytes above the start: CUDA's counter, or the running sum of CPU allocations."""
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - start
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        run()
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == '[memory]'
    ]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


def environment() -> dict[str, str]:
    """What the figures depend on."""
    flags = torch.backends.cpu.get_cpu_capability()
    return {
        'machine': f'{_processor()}, {os.cpu_count()} logical CPUs, {flags}',
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else 'none',
        'torch': torch.__version__,
        'python': platform.python_version(),
        'threads': str(torch.get_num_threads()),
        'OMP': ' '.join(f'{k}={v}' for k, v in os.environ.items() if k.startswith('OMP_'))
        or 'default',
        'GLIBC_TUNABLES': os.environ.get('GLIBC_TUNABLES', 'default'),
        'load average': f'{os.getloadavg()[0]:.1f}',
    }


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    names = re.findall(r'model name\s*: (.+)', info.read_text()) if info.is_file() else []
    return f'{platform.machine()} {names[0]}' if names else platform.machine()


def _runner(candidate: Callable, inputs: Sequence[Tensor], mode: str) -> Callable[[], list[Tensor]]:
    if mode == MODES[0]:

        def forward() -> list[Tensor]:
            with torch.no_grad():
                return tensors(candidate(*inputs))

        return forward
    if mode == 'step':
        return lambda: tensors(candidate(*inputs))
    parameters = (
        [p for p in candidate.parameters() if p.requires_grad]
        if isinstance(candidate, nn.Module)
        else []
    )
    wanted = [x for x in inputs if x.is_floating_point()] + parameters

    def forward_backward() -> list[Tensor]:
        outputs = tensors(candidate(*inputs))
        # Fixed weights, so that no gradient vanishes by symmetry.
        ramps = [
            torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out) for out in outputs
        ]
        grads = torch.autograd.grad(outputs, wanted, ramps, allow_unused=True)
        return outputs + [grad for grad in grads[: len(inputs)] if grad is not None]

    return forward_backward


def tensors(value: object) -> list[Tensor]:
    """All tensors of nested sequences."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors(item)]


def difference(ours: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Largest norm of a difference, relative to the norm."""
    # Norms: where a selection ties within rounding, single positions may differ by much.
    return max(
        ((a - b).norm() / b.norm().clamp(min=1e-12)).item()
        for a, b in zip(ours, other, strict=True)
    )
