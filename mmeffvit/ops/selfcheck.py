"""A check of a Triton kernel before its first use: a small problem against the reference.

A kernel may fail on a card, a driver or a Triton version that it was never run on. When the
automatic choice first takes one of its variants on a device, the values of a small random problem,
and the gradients where gradients are recorded, are compared with those of the reference in float64
on the CPU. If the kernel raises or differs, one warning says so, and the torch path is used from
then on. A backend that is asked for by name is not checked, and nothing is checked while a CUDA
graph is captured or a model is compiled.

The problem has the head width and the options of the call that caused the check, so that the
kernels that Triton compiles for it are those that the call needs anyway.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

#: Largest error, relative to the largest entry or to 1 if all are smaller.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}

_broken: set[tuple[str, str]] = set()


def is_broken(name: str, device: torch.device) -> bool:
    """Whether a kernel of the op failed a check on the device."""
    return (name, str(device)) in _broken


class Checks:
    """Results of the checks of one op's kernels.

    Args:
        name (str): Name of the op.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.results: dict[tuple, bool] = {}
        self._lock = threading.RLock()

    def passed(
        self,
        kernel: Callable[[], Callable],
        reference: Callable,
        small_problem: Callable[..., tuple[Hashable, Callable[[], tuple[tuple, dict]]]],
        args: tuple,
        kwargs: dict,
    ) -> bool:
        """Check the kernel's variant for these arguments, if that was not done before.

        Args:
            kernel (Callable): Returns the kernel; importing it may fail.
            reference (Callable): The reference.
            small_problem (Callable): See :class:`mmeffvit.ops.dispatch.Op`.
            args (tuple): Arguments of the call that needs the kernel; the first is a tensor.
            kwargs (dict): Its keyword arguments.
        """
        device, dtype = args[0].device, args[0].dtype
        gradients = torch.is_grad_enabled() and any(
            isinstance(x, Tensor) and x.requires_grad for x in args
        )
        variant, make = small_problem(*args, **kwargs)
        key = (device, dtype, gradients, variant)
        if key in self.results:
            return self.results[key]
        if device.type == 'cuda' and torch.cuda.is_current_stream_capturing():
            return not is_broken(self.name, device)
        with self._lock:
            if key not in self.results:
                error = _compare(kernel, reference, make, device, TOLERANCE[dtype], gradients)
                if error:
                    _broken.add((self.name, str(device)))
                    warnings.warn(
                        f'The Triton kernel of {self.name} {error} on {_describe(device)} for '
                        f'{dtype}, variant {variant}; its torch path is used instead. '
                        "mmeffvit.ops.use_backend('triton') insists.",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                self.results[key] = not error
        return self.results[key]


def _describe(device: torch.device) -> str:
    import triton

    versions = f'torch {torch.__version__}, triton {triton.__version__}'
    if device.type != 'cuda':
        return f'{device.type} ({versions})'
    name = torch.cuda.get_device_name(device)
    return f'{name} ({versions}, CUDA {torch.version.cuda})'


def _compare(
    kernel: Callable[[], Callable],
    reference: Callable,
    make: Callable[[], tuple[tuple, dict]],
    device: torch.device,
    tolerance: float,
    gradients: bool,
) -> str:
    """Return what is wrong with the kernel, or ``''``."""
    off = torch.autocast(device.type, enabled=False), torch.autocast('cpu', enabled=False)
    with torch.inference_mode(False), torch.set_grad_enabled(gradients), off[0], off[1]:
        args, kwargs = make()
        expected = _run(reference, args, kwargs, gradients, torch.device('cpu'), torch.float64)
        try:
            results = _run(kernel(), args, kwargs, gradients, device)
            # Errors of a launch may come as late as this.
            results = [result.cpu().double() for result in results]
        except Exception as error:  # whatever it is, there is another path
            first = next(iter(str(error).splitlines()), '')
            return f'raised {type(error).__name__} ({first})'
    for result, right in zip(results, expected, strict=True):
        if not result.isfinite().all():
            return 'returned numbers that are not finite'
        error = (result - right).abs().max() / right.abs().max().clamp(min=1)
        if error > tolerance:
            return f'differs from the reference by {error:.1e}'
    return ''


def _run(
    function: Callable,
    args: tuple,
    kwargs: dict,
    gradients: bool,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """Floating-point results and, where wanted, gradients of a fixed combination of them."""
    leaves = []

    def prepare(x: object) -> object:
        if not isinstance(x, Tensor):
            return x
        if x.is_floating_point():
            leaves.append(x.to(device, dtype or x.dtype).detach().requires_grad_(gradients))
            return leaves[-1]
        return x.to(device)

    outputs = function(*map(prepare, args), **kwargs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    floats = [x for x in outputs if isinstance(x, Tensor) and x.is_floating_point()]
    if not gradients:
        return floats
    used = [x for x in floats if x.requires_grad]
    weights = [torch.arange(x.numel(), device=x.device).view(x.shape).sin().to(x) for x in used]
    return [x.detach() for x in floats] + list(torch.autograd.grad(used, leaves, weights))
