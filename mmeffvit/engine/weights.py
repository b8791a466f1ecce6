"""Weights of whole models: read as untrusted files, loaded without a remainder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..checkpoints import read_state, unwrap
from .training_checkpoint import read_training_checkpoint


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read the weights of a training checkpoint or a converted file.

    Args:
        path (str | Path): ``.pth`` or ``.safetensors``; see :func:`read_training_checkpoint`.

    Returns:
        tuple: The state dict, and the checkpoint's ``meta``, empty if it has none.

    Raises:
        UserError: If a ``.pth`` file is missing, damaged or would run code.
        ValueError: If a ``.safetensors`` file cannot be read, or there are no weights inside.
    """
    if Path(path).suffix == '.safetensors':
        return read_state(path), {}
    loaded = read_training_checkpoint(str(path))
    return unwrap(loaded), loaded.get('meta') or {}


def load_strictly(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Load every key of a state dict into every key of a model.

    Args:
        model (nn.Module): The model.
        state (dict[str, Tensor]): Its weights.
        path (str | Path): Where they are from, for the message.

    Raises:
        ValueError: If keys are missing, unknown or of another shape.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(
            f'{path} does not hold the weights of this model; weights of the authors are converted '
            f'by tools/convert_checkpoint.py ({reason} ...)'
        ) from None
