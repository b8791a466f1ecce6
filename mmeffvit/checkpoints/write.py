from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from ..utils.atomic import atomic
from .inspection import CheckpointError


def write_weights(state: Mapping[str, Tensor], path: str | Path, meta: dict) -> None:
    """Write ``{'state_dict', 'meta'}`` as ``.pth``, or tensors and metadata as ``.safetensors``.

    Args:
        state (Mapping[str, Tensor]): The weights.
        path (str | Path): The file; its suffix decides.
        meta (dict): What to note beside them, JSON-like.
    """
    with _written(path) as partial:
        if partial.suffix == '.safetensors':
            partial.write_bytes(safetensors_bytes(state, meta))
        else:
            torch.save(dict(state_dict=dict(state), meta=meta), partial)


def safetensors_bytes(state: Mapping[str, Tensor], meta: dict) -> bytes:
    """Tensors and metadata as the content of a ``.safetensors`` file."""
    # The format knows no shared storage, and heads of public detectors share weights.
    contiguous = torch.contiguous_format
    tensors = {key: value.clone(memory_format=contiguous) for key, value in state.items()}
    return save(tensors, metadata={'meta': json.dumps(meta)})


def save_checkpoint(checkpoint: Mapping, path: str | Path) -> None:
    """Write a training checkpoint, whole or not at all.

    Args:
        checkpoint (Mapping): What to save.
        path (str | Path): A local file.

    Raises:
        CheckpointError: If it cannot be written, on a full disk for one; what was there stays.
    """
    with _written(path) as partial:
        torch.save(checkpoint, partial)


@contextmanager
def _written(path: str | Path) -> Iterator[Path]:
    try:
        with atomic(path, sync=True) as partial:
            yield partial
    except (OSError, RuntimeError, SafetensorError) as error:  # PyTorch's writer is C++
        raise CheckpointError(
            f'{path} cannot be written, is the disk full? ({str(error).splitlines()[0]})'
        ) from error
