"""The one place that chooses which implementation of an op runs.

Every op has a readable ``reference``, a fast ``torch`` path and, on CUDA, optionally a ``triton``
kernel. The choice is, in order: the ``backend`` argument, :func:`use_backend`, the environment
variable ``MMEFFVIT_OPS`` (read when the package is imported), else the best that can run.
A backend asked for by name that cannot run raises; only the automatic choice falls back.

With ``TRITON_INTERPRET=1`` in the environment Triton runs kernels in its interpreter, which takes
CPU tensors and is slow. Such a kernel runs when it is asked for by name, never by itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

BACKENDS = ('reference', 'torch', 'triton')
TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TRITON_MAX_HEAD_DIMS = 128
#: Earlier ones multiply no blocks of fewer than 16 columns.
TRITON_MIN_VERSION = (3, 3)

_logger = logging.getLogger(__name__)
_logged: set[tuple] = set()


def _check_name(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f'{source} is {name!r}; use one of {", ".join(BACKENDS)}.')
    return name


_environment = os.environ.get('MMEFFVIT_OPS') or None
_forced: str | None = _environment and _check_name(_environment, 'MMEFFVIT_OPS')


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op inside the ``with`` block on one backend.

    Args:
        name (str): ``'reference'``, ``'torch'`` or ``'triton'``.

    Raises:
        ValueError: If the name is not a backend.
    """
    global _forced
    previous, _forced = _forced, _check_name(name, 'The backend')
    try:
        yield
    finally:
        _forced = previous


def available_backends() -> tuple[str, ...]:
    """Names of the backends that this process can run at all.

    ``'triton'`` needs the package and either a GPU or its interpreter (``TRITON_INTERPRET=1``).
    """
    runs = torch.cuda.is_available() or triton_interpreted()
    return BACKENDS if runs and not _installation_obstacle() else BACKENDS[:2]


def triton_interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter; it decides so when it is imported."""
    return os.environ.get('TRITON_INTERPRET') == '1'


def _installation_obstacle() -> str:
    if importlib.util.find_spec('triton') is None:
        return 'triton is not installed'
    version = importlib.import_module('triton').__version__
    if tuple(map(int, version.split('.')[:2])) < TRITON_MIN_VERSION:
        return f'triton {version} is older than {".".join(map(str, TRITON_MIN_VERSION))}'
    return ''


def _device_obstacle(device: torch.device) -> str:
    if torch.version.hip:
        return 'the kernels are for NVIDIA GPUs'
    if torch.cuda.get_device_capability(device) < (8, 0):
        return 'the GPU is older than compute capability 8.0'
    return ''


class Op:
    """An op with several implementations of one signature.

    Args:
        name (str): Name used in messages.
        reference (Callable): Short, slow, obviously right; any device and dtype; what
            ``torch.compile`` and exporters trace.
        fast (Callable): The default everywhere but on CUDA.
        triton (str, optional): ``'module:function'``, imported on first use.
        supports (Callable, optional): ``supports(*args, **kwargs) -> str``, the reason why the
            Triton kernel cannot take these arguments, empty if it can.
    """

    def __init__(
        self,
        name: str,
        reference: Callable,
        fast: Callable,
        triton: str | None = None,
        supports: Callable[..., str] | None = None,
    ) -> None:
        self.name = name
        self._implementations = {'reference': reference, 'torch': fast}
        self._triton = triton
        self._supports = supports

    def __call__(self, first: Tensor, *args, backend: str | None = None, **kwargs):
        """Run the op; ``first`` decides device and dtype."""
        if torch.compiler.is_compiling() and backend is None and _forced is None:
            return self._implementations['reference'](first, *args, **kwargs)
        chosen = self._choose(backend or _forced, first, args, kwargs)
        if chosen == 'triton' and 'triton' not in self._implementations:
            module, function = self._triton.split(':')
            self._implementations['triton'] = getattr(importlib.import_module(module), function)
        # Triton launches on the current device, whichever the tensors are on.
        with torch.cuda.device_of(first) if chosen == 'triton' else nullcontext():
            return self._implementations[chosen](first, *args, **kwargs)

    def _choose(self, asked: str | None, first: Tensor, args: tuple, kwargs: dict) -> str:
        if asked is not None and _check_name(asked, 'The backend') != 'triton':
            return asked
        obstacle = self._triton_obstacle(first, args, kwargs)
        if asked == 'triton' and obstacle:
            raise ValueError(f"{self.name} cannot run on 'triton' here: {obstacle}.")
        interprets = asked is None and not first.is_cuda  # never chosen by itself
        chosen = 'torch' if obstacle or interprets else 'triton'
        key = (self.name, first.device.type, first.dtype, chosen)
        if key not in _logged:
            _logged.add(key)
            _logger.debug(
                '%s on %s %s: %s%s',
                *key,
                f' ({obstacle})' if obstacle and first.is_cuda else '',
            )
        return chosen

    def _triton_obstacle(self, first: Tensor, args: tuple, kwargs: dict) -> str:
        if self._triton is None:
            return 'it has no Triton kernel'
        if not first.is_cuda and not (first.device.type == 'cpu' and triton_interpreted()):
            return (
                f'the tensors are on {first.device.type}, not on CUDA '
                '(TRITON_INTERPRET=1 interprets kernels on the CPU)'
            )
        obstacle = _installation_obstacle() or (first.is_cuda and _device_obstacle(first.device))
        if obstacle:
            return obstacle
        if first.dtype not in TRITON_DTYPES:
            return f'{first.dtype} is not among float16, bfloat16, float32'
        if first.shape[-1] > TRITON_MAX_HEAD_DIMS:
            return f'the head width {first.shape[-1]} is over {TRITON_MAX_HEAD_DIMS}'
        return self._supports(first, *args, **kwargs) if self._supports else ''
