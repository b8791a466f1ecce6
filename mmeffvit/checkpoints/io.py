"""Reading and writing checkpoints; files are untrusted, so only tensors are ever loaded."""

from __future__ import annotations

import argparse
import json
import pickle
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .keymap import StateDict, as_state

#: Where training scripts of the field put the weights, best first.
WRAPPERS = ('model', 'state_dict_ema', 'state_dict', 'params')


def read_state(path: str | Path) -> StateDict:
    """Read the weights of a ``.pth`` or ``.safetensors`` file.

    Args:
        path (str | Path): The file. Wrappers (``model``, ``state_dict``, ...) and the prefix
            ``module.`` are taken off.

    Returns:
        dict[str, Tensor]: The state dict, on the CPU.

    Raises:
        ValueError: If the file is missing, truncated, foreign, or would run code when loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no checkpoint at {path}.')
    loaded = _load(path)
    try:
        return unwrap(loaded)
    except ValueError as error:
        raise ValueError(f'{path} holds no weights. {error}') from None


def _load(path: Path) -> object:
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        # Training scripts save their parsed arguments beside the weights; a Namespace is inert.
        inert = torch.serialization.safe_globals([argparse.Namespace])
        with warnings.catch_warnings(), inert:
            warnings.simplefilter('ignore')  # of pickle protocols; what is wrong raises
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = str(error).partition('Unsupported global: GLOBAL ')[2].split()
        reason = f'it would import {blocked[0]}' if blocked else 'it is not a tensor file'
        raise ValueError(
            f'{path} is refused: {reason}. Only tensors are loaded; save the plain state dict.'
        ) from None
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(
            f'{path} cannot be read: it is damaged or no checkpoint ({_first_sentence(error)}).'
        ) from None


def unwrap(loaded: object) -> StateDict:
    """Take a training checkpoint's wrappers and ``module.`` prefixes off its state dict.

    Raises:
        ValueError: If no flat mapping of tensors is inside.
    """
    while isinstance(loaded, dict):
        wrapper = next((name for name in WRAPPERS if isinstance(loaded.get(name), dict)), None)
        if wrapper is None:
            break
        loaded = loaded[wrapper]
    state = as_state(loaded)
    if all(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    return state


def write_state(state: StateDict, path: str | Path, meta: dict) -> None:
    """Write ``{'state_dict', 'meta'}`` as ``.pth``, or tensors and metadata as ``.safetensors``.

    Args:
        state (dict[str, Tensor]): The weights.
        path (str | Path): The file; its suffix decides.
        meta (dict): What to note beside them, JSON-like.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    if path.suffix == '.safetensors':
        # The format knows no shared storage, and heads of public detectors share weights.
        contiguous = torch.contiguous_format
        tensors = {key: value.clone(memory_format=contiguous) for key, value in state.items()}
        save_file(tensors, partial, metadata={'meta': json.dumps(meta)})
    else:
        torch.save(dict(state_dict=state, meta=meta), partial)
    partial.replace(path)


def _first_sentence(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].partition('. ')[0]
