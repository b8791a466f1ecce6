"""Choice of the device of a run, with the reason when it is not the GPU.

Detectors call mmcv's operators (NMS, RoIAlign) on the device of the model, so they can
use a GPU only if mmcv was built with CUDA. Only torch is imported here: the set-up script asks
:func:`cuda_build_obstacle` before mmcv exists.
"""

import os
import re
import subprocess
from pathlib import Path

import torch

NVIDIA_DRIVER = Path('/proc/driver/nvidia/version')


def cuda_build_obstacle() -> str | None:
    """Find out why mmcv's CUDA operators cannot be built on this machine.

    Returns:
        str | None: A clause such as ``'nvcc is missing'``, or None if nothing does.
    """
    gpu = _gpu_obstacle()
    if gpu is not None:
        return gpu
    # Imported late: it looks for nvcc when it is imported.
    from torch.utils.cpp_extension import CUDA_HOME

    nvcc = Path(CUDA_HOME or '', 'bin', 'nvcc')
    if CUDA_HOME is None or not os.access(nvcc, os.X_OK):
        return 'there is a GPU but no nvcc'
    text = subprocess.run([nvcc, '--version'], capture_output=True, text=True).stdout
    match = re.search(r'release (\d+)\.(\d+)', text)
    wanted = str(torch.version.cuda).partition('.')[0]
    if match is None or match[1] != wanted:
        found = f'{match[1]}.{match[2]}' if match else 'unknown'
        return f'nvcc is of CUDA {found}, but torch needs CUDA {wanted}'
    return None


def choose_device() -> tuple[str, str]:
    """Choose between GPU and CPU for a run that needs mmcv's operators.

    A caller that is told ``'cpu'`` on a machine with a GPU hides the GPU from mmengine, which
    would take it, by ``CUDA_VISIBLE_DEVICES=''`` in the environment of the run.

    Returns:
        tuple[str, str]: ``'cuda'`` or ``'cpu'``, and the reason, a clause to print.
    """
    gpu = _gpu_obstacle()
    if gpu is not None:
        return 'cpu', gpu
    if mmcv_has_cuda():
        return 'cuda', f'{torch.cuda.get_device_name()}, and mmcv has its CUDA operators'
    obstacle = cuda_build_obstacle() or 'they can be built now: remove .venv and run make again'
    return 'cpu', f'mmcv has no CUDA operators ({obstacle})'


def check_device(name: str) -> str:
    """Check that a device is there, and return its name.

    Args:
        name (str): Such as ``'cpu'``, ``'cuda'`` or ``'cuda:1'``.

    Raises:
        ValueError: If there is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r} is unknown: use 'cpu', 'cuda' or 'cuda:1'.") from None
    if device.type == 'cpu':
        return name
    kind = getattr(torch, device.type, None)
    if kind is None or not hasattr(kind, 'is_available') or not kind.is_available():
        raise ValueError(f"device={name!r} is not available here: use 'cpu'.")
    count = kind.device_count()
    if device.index is not None and device.index >= count:
        raise ValueError(f'device={name!r} is not available: there are {count}, counted from 0.')
    return name


def mmcv_has_cuda() -> bool:
    """Whether mmcv is installed with compiled CUDA operators."""
    try:
        from mmcv.ops import get_compiling_cuda_version
    except ImportError:
        return False
    return get_compiling_cuda_version() != 'not available'


def _gpu_obstacle() -> str | None:
    if torch.cuda.is_available():
        return None
    if not NVIDIA_DRIVER.exists():
        return 'there is no NVIDIA GPU'
    if os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1'):
        return 'CUDA_VISIBLE_DEVICES hides the GPU'
    if torch.version.cuda is None:
        return f'torch {torch.__version__} is built without CUDA'
    return f'torch {torch.__version__} cannot use the GPU: its driver is too old or not working'
