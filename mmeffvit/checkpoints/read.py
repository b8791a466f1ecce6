"""Reading checkpoints, the one place that does; files are untrusted, so nothing of them is run."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import load as load_safetensors
from torch import Tensor

from .index import SCHEME
from .inspection import SETTINGS, CheckpointError, RefusedError, Settings, inspect
from .sources import fetch

try:
    from numpy._core import multiarray
except ImportError:  # numpy before 1.26
    from numpy.core import multiarray

#: Where training scripts of the field put the weights, best first; DINO's and DINOv2's evaluate the
#: teacher.
WRAPPERS = (
    'model',
    'state_dict_ema',
    'state_dict',
    'model_state_dict',
    'model_state',
    'params',
    'teacher',
)
#: What wrappers of models (DataParallel, torch.compile, Lightning) put before every name.
PREFIXES = ('module.', '_orig_mod.', 'model.')


class Weights(dict[str, Tensor]):
    """A state dict on the CPU that knows where it is from.

    Args:
        state (Mapping[str, Tensor]): Names and tensors.
        source (str): The file or URL.
        meta (dict, optional): What the checkpoint notes beside them.
    """

    def __init__(self, state: Mapping[str, Tensor], source: str, meta: dict | None = None) -> None:
        super().__init__(state)
        self.source = source
        self.meta = meta or {}

    @property
    def origin(self) -> str:
        """The source, of published weights also where they were published."""
        published = self.source.startswith(SCHEME) and self.meta.get('url')
        return f'{self.source} ({published})' if published else self.source

    def part(self, prefix: str) -> Weights:
        """The weights under a prefix, without it.

        Raises:
            CheckpointError: If there are none.
        """
        start = prefix.rstrip('.') + '.'
        inner = {k.removeprefix(start): v for k, v in self.items() if k.startswith(start)}
        if not inner:
            raise CheckpointError(f'{self.source} has no weights under {start!r}.')
        return Weights(inner, self.source, self.meta)


def read_weights(source: str | Path) -> Weights:
    """Read the weights of a checkpoint.

    Args:
        source (str | Path): A ``.pth`` or ``.safetensors`` file, an ``http(s)`` URL, or another
            address that mmengine knows (``torchvision://``, ``open-mmlab://``, ``s3://``), or
            ``mmeffvit://NAME`` for published weights, which arrive converted.
            What wraps the weights (``model``, ``state_dict``, ...) and the prefixes of
            DataParallel, ``torch.compile`` and Lightning are taken off.

    Returns:
        Weights: The state dict.

    Raises:
        CheckpointError: If the file is missing, damaged, foreign, or would run code when loaded.
    """
    content = read_checkpoint(source)
    meta = content.get('meta') if isinstance(content, dict) else None
    try:
        state = unwrap(content)
    except ValueError as error:
        raise CheckpointError(f'{source} holds no weights. {error}') from None
    return Weights(state, str(source), meta if isinstance(meta, dict) else None)


def read_checkpoint(source: str | Path, map_location: Any = 'cpu') -> Any:
    """Read all that a checkpoint holds, the training state beside the weights too.

    Args:
        source (str | Path): See :func:`read_weights`.
        map_location: Where tensors are put, see :func:`torch.load`.

    Returns:
        Any: Its content; of a ``.safetensors`` file ``{'state_dict', 'meta'}``.

    Raises:
        CheckpointError: If the file is missing, damaged, foreign, or would run code when loaded.
    """
    with fetch(source) as file:
        return _read(file, str(source), map_location)


def _read(file: BinaryIO, source: str, map_location: Any) -> Any:
    try:
        if inspect(file) == 'safetensors':
            return _read_safetensors(file, map_location)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of pickle protocols; what is wrong raises
            return torch.load(file, map_location=map_location, weights_only=True)
    except RefusedError as error:
        raise CheckpointError(
            f'{source} is refused: {error}. Only tensors and training state are loaded, nothing '
            'is run; save the plain state dict.'
        ) from None
    except Exception as error:  # a damaged file raises anything
        raise CheckpointError(
            f'{source} cannot be read: it is damaged or no checkpoint ({_reason(error)}).'
        ) from None


def _read_safetensors(file: BinaryIO, map_location: Any) -> dict:
    data = file.read()
    state = load_safetensors(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], 'little')])
    # Written by save_weights; other writers note what they like, or nothing.
    meta = json.loads((header.get('__metadata__') or {}).get('meta', '{}'))
    if isinstance(map_location, (str, torch.device)):
        state = {key: value.to(map_location) for key, value in state.items()}
    return dict(state_dict=state, meta=meta)


def _reason(error: Exception) -> str:
    """The first sentence of an error, without PyTorch's advice to switch the protection off."""
    lines = str(error).rpartition('WeightsUnpickler error: ')[2].strip().splitlines()
    reason = lines[0].partition('. ')[0] if lines else ''
    return reason if reason and 'weights_only' not in reason else type(error).__name__


def unwrap(content: object) -> dict[str, Tensor]:
    """Take wrappers and prefixes off the state dict of a checkpoint.

    Raises:
        ValueError: If no flat mapping from names to tensors is inside.
    """
    lightning = isinstance(content, dict) and 'pytorch-lightning_version' in content
    while isinstance(content, dict):
        wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), dict)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    state = as_state(content)
    if lightning:  # its module holds losses and metrics beside the model
        state = {k: v for k, v in state.items() if k.startswith('model.')} or state
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def as_state(value: object) -> dict[str, Tensor]:
    """The tensors of a flat mapping.

    Raises:
        ValueError: If it is not a flat mapping from names to tensors.
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f'A state dict maps names to tensors; this is a {type(value).__name__}.')
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise ValueError(f'Entry {key!r} of the state dict is no named tensor.')
    return dict(value)


def _history_buffer_method(owner: type, name: str) -> Callable:
    if owner is not HistoryBuffer or name.startswith('_'):
        raise ValueError(f'refused to read {name!r} of {owner!r}')
    return getattr(owner, name)


def _answer(module: str, name: str, function: Callable) -> Callable:
    """A function that ``weights_only`` finds by the name that pickles use.

    A pair of function and name would do from PyTorch 2.6 on.
    """

    def answer(*args):
        return function(*args)

    answer.__module__, answer.__name__, answer.__qualname__ = module, name, name
    return answer


def _settings(module: str, name: str) -> type[Settings]:
    """The class that ``weights_only`` finds in place of one of :data:`SETTINGS`."""
    return type(name, (Settings,), {'__module__': module, '__qualname__': name})


# mmengine's training checkpoints hold log histories: numpy arrays and methods that average them.
# numpy 1 and 2 spell their module differently.
torch.serialization.add_safe_globals(
    [
        argparse.Namespace,
        slice,
        HistoryBuffer,
        _answer('builtins', 'getattr', _history_buffer_method),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in '?bBhHiIlLqQefdUSO'},
        *(
            _answer(module, name, getattr(multiarray, name))
            for module in ('numpy.core.multiarray', 'numpy._core.multiarray')
            for name in ('scalar', '_reconstruct')
        ),
        *(_settings(*full.rsplit('.', 1)) for full in SETTINGS),
    ]
)
