"""The one place that chooses which implementation of an op runs.

Every op has a readable ``reference``, a fast ``torch`` path and, on CUDA, optionally a ``triton``
kernel. The choice is, in order: the ``backend`` argument, :func:`use_backend`, the environment
variable ``MMEFFVIT_BACKEND`` (read when the package is imported), else the best that can run.
Requesting an unavailable backend raises; only automatic selection falls back.

A kernel that the automatic choice meets for the first time on a device, in a precision and a width,
is first checked on a small problem (:mod:`.selfcheck`).

``torch.compile`` keeps the fast paths of ops that are registered operators
(:mod:`.operators`). Exporters, ``torch.jit.trace`` and the transforms of ``torch.func`` are given
the reference, which is made of standard operators.

With ``TRITON_INTERPRET=1`` in the environment Triton runs kernels in its interpreter, which takes
CPU tensors and is slow. Interpreted kernels run on request only.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from .operators import exporting
from .selfcheck import Checks, is_broken

BACKENDS = ('reference', 'torch', 'triton')
TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TRITON_MAX_HEAD_DIMS = 128
#: Earlier ones multiply no blocks of fewer than 16 columns.
TRITON_MIN_VERSION = (3, 3)

_tracing = torch.jit.is_tracing  # pyright: ignore[reportPrivateImportUsage]
_logger = logging.getLogger(__name__)
_logged: set[tuple] = set()


def _check_name(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f'{source} is {name!r}; use one of {", ".join(BACKENDS)}.')
    return name


def _read_environment() -> str | None:
    for variable in ('MMEFFVIT_BACKEND', 'MMEFFVIT_OPS'):
        name = os.environ.get(variable)
        if name:
            if variable == 'MMEFFVIT_OPS':
                message = 'MMEFFVIT_OPS is deprecated; set MMEFFVIT_BACKEND.'
                warnings.warn(message, DeprecationWarning, stacklevel=2)
            return _check_name(name, variable)
    return None


class _Forced(threading.local):
    # Not a context variable, which the compiler cannot trace, and not a class attribute, whose
    # change in a thread it does not notice.
    def __init__(self) -> None:
        self.name: str | None = None


_default = _read_environment()
_forced = _Forced()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op inside the ``with`` block on one backend; other threads are not affected.

    Args:
        name (str): ``'reference'``, ``'torch'`` or ``'triton'``.

    Raises:
        ValueError: If the name is not a backend.
    """
    previous, _forced.name = _forced.name, _check_name(name, 'The backend')
    try:
        yield
    finally:
        _forced.name = previous


def requested_backend() -> str | None:
    """The backend of :func:`use_backend` or the environment, None for the automatic choice."""
    return _forced.name or _default


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


def padded_width(head_dims: int) -> int:
    """Columns of the block that a kernel keeps a row of this width in."""
    return max(16, 1 << (head_dims - 1).bit_length())


def width_reason(head_dims: int) -> str:
    """Why no kernel takes heads of this width, or ``''``."""
    if head_dims <= TRITON_MAX_HEAD_DIMS:
        return ''
    return f'the head width {head_dims} is over {TRITON_MAX_HEAD_DIMS}'


class Op:
    """An op with several implementations of one signature.

    Args:
        name (str): Name used in messages.
        reference (Callable): Short, slow, obviously right; any device and dtype; differentiable
            any number of times.
        fast (Callable): The default everywhere but on CUDA.
        triton (str, optional): ``'module:function'``, imported on first use.
        unsupported_reason (Callable, optional): Returns why the kernel cannot run on these
            arguments, or ``''``.
        small_problem (Callable, optional): ``small_problem(*args, **kwargs)`` returns the kernel's
            variant for these arguments (hashable) and a function that makes ``(args, kwargs)`` of a
            small random problem that runs it, on the CPU.
        compiled (Callable, optional): ``compiled(backend, *args, **kwargs)``, traced by
            ``torch.compile`` in place of the reference; ``backend`` is ``'torch'`` or
            ``'triton'``.
    """

    def __init__(
        self,
        name: str,
        reference: Callable,
        fast: Callable,
        triton: str | None = None,
        unsupported_reason: Callable[..., str] | None = None,
        small_problem: Callable | None = None,
        compiled: Callable | None = None,
    ) -> None:
        self.name = name
        self._implementations = {'reference': reference, 'torch': fast}
        self._triton = triton
        self._unsupported_reason = unsupported_reason
        self._small_problem = small_problem
        self._compiled = compiled
        self._checks = Checks(name)

    def __call__(self, first: Tensor, *args, backend: str | None = None, **kwargs):
        """Run the op; ``first`` decides device and dtype."""
        asked = backend or requested_backend()
        if torch.compiler.is_compiling():
            return self._trace(asked, first, args, kwargs)
        if asked is None and (_transforms_active() or _tracing()):
            asked = 'reference'
        chosen = self._choose(asked, first, args, kwargs)
        # Triton launches on the current device, whichever the tensors are on.
        with torch.cuda.device_of(first) if chosen == 'triton' else nullcontext():
            return self._implementation(chosen)(first, *args, **kwargs)

    def _implementation(self, name: str) -> Callable:
        if name == 'triton' and 'triton' not in self._implementations:
            assert self._triton is not None
            module, function = self._triton.split(':')
            self._implementations['triton'] = getattr(importlib.import_module(module), function)
        return self._implementations[name]

    def _trace(self, asked: str | None, first: Tensor, args: tuple, kwargs: dict):
        """What a compiler or exporter traces."""
        if asked == 'reference' or self._compiled is None or (asked is None and exporting()):
            return self._implementations['reference'](first, *args, **kwargs)
        chosen = asked or 'torch'
        if asked is None and first.is_cuda and self._triton and first.dtype in TRITON_DTYPES:
            supported = self._unsupported_reason is None or not self._unsupported_reason(
                first, *args, **kwargs
            )
            if supported and kernels_work(self.name, first.device.index):
                chosen = 'triton'
        return self._compiled(chosen, first, *args, **kwargs)

    def _choose(self, asked: str | None, first: Tensor, args: tuple, kwargs: dict) -> str:
        if asked is not None and _check_name(asked, 'The backend') != 'triton':
            return asked
        obstacle = self._triton_obstacle(first, args, kwargs)
        if asked == 'triton' and obstacle:
            raise ValueError(f"{self.name} cannot run on 'triton' here: {obstacle}.")
        interprets = asked is None and not first.is_cuda  # never chosen by itself
        chosen = 'torch' if obstacle or interprets else 'triton'
        if chosen == 'triton' and asked is None and not self._passes(first, args, kwargs):
            chosen, obstacle = 'torch', 'the kernel failed its check'
        key = (self.name, first.device.type, first.dtype, chosen)
        if key not in _logged:
            _logged.add(key)
            _logger.debug(
                '%s on %s %s: %s%s',
                *key,
                f' ({obstacle})' if obstacle and first.is_cuda else '',
            )
        return chosen

    def _passes(self, first: Tensor, args: tuple, kwargs: dict) -> bool:
        if self._small_problem is None:
            return True
        return self._checks.passed(
            lambda: self._implementation('triton'),
            self._implementations['reference'],
            self._small_problem,
            (first, *args),
            kwargs,
        )

    def _triton_obstacle(self, first: Tensor, args: tuple, kwargs: dict) -> str:
        if self._triton is None:
            return 'it has no Triton kernel'
        if not first.is_cuda and not (first.device.type == 'cpu' and triton_interpreted()):
            return (
                f'the tensors are on {first.device.type}, not on CUDA '
                '(TRITON_INTERPRET=1 interprets kernels on the CPU)'
            )
        obstacle = _installation_obstacle()
        if not obstacle and first.is_cuda:
            obstacle = _device_obstacle(first.device)
        if obstacle:
            return obstacle
        if first.dtype not in TRITON_DTYPES:
            return f'{first.dtype} is not among float16, bfloat16, float32'
        if self._unsupported_reason is None:
            return ''
        return self._unsupported_reason(first, *args, **kwargs)


def _transforms_active() -> bool:
    """Whether ``torch.func`` transforms (vmap, grad, jvp, ...) are running."""
    return torch._C._are_functorch_transforms_active()


def kernels_work(name: str, device: int | None) -> bool:
    """Whether Triton kernels of an op can run on a GPU and none was found broken there."""
    where = torch.device('cuda', torch.cuda.current_device() if device is None else device)
    return not (_installation_obstacle() or _device_obstacle(where) or is_broken(name, where))


# What torch.compiler.assume_constant_result does, which imports the compiler first (half a second).
kernels_work._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
