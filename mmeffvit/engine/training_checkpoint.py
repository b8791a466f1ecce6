"""Reading training checkpoints, which hold log histories beside weights, as untrusted files."""

import pickle
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ..utils.cli import UserError

try:
    from numpy._core import multiarray
except ImportError:  # numpy before 1.26
    from numpy.core import multiarray


def _history_buffer_method(owner: type, name: str):
    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError(f'refused to read {name!r} of {owner!r}')
    return getattr(owner, name)


# The name that it answers to in a pickle; a pair of function and name needs torch 2.6.
_history_buffer_method.__module__ = 'builtins'
_history_buffer_method.__name__ = _history_buffer_method.__qualname__ = 'getattr'


def allow_training_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine's training checkpoints.

    They hold log histories beside the weights: numpy arrays and ``HistoryBuffer``. Its pickles name
    ``getattr``, which is replaced by a look-up that knows nothing else. Calling this twice is
    harmless. It also mends resuming with the original mmengine under torch 2.6 and later.
    """
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            multiarray.scalar,
            multiarray._reconstruct,
            *(type(np.dtype(kind)) for kind in (np.float64, np.int64, np.uint32)),
            _history_buffer_method,
        ]
    )


def read_training_checkpoint(path: str) -> dict:
    """Read a checkpoint without running any code it may hold.

    Args:
        path (str): A ``.pth`` file.

    Returns:
        dict: Its contents; tensors stay on disk until they are used.

    Raises:
        UserError: If it is missing, damaged, or holds more than weights and training state.
    """
    if not Path(path).is_file():
        raise UserError(f'{path} does not exist: give the path of a checkpoint.')
    allow_training_checkpoints()
    try:
        loaded = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # torch gives the reason after advice to switch the protection off.
        lines = str(error).rpartition('WeightsUnpickler error: ')[2].strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise UserError(
            f'{path} is damaged or holds more than weights and training state: {reason}'
        ) from error
    if not isinstance(loaded, dict):
        raise UserError(f'{path} holds a {type(loaded).__name__}, not a checkpoint.')
    return loaded
