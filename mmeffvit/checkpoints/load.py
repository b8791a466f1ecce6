from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from .io import read_state


def load_pretrained(model: nn.Module, source: str | Path) -> None:
    """Fill a backbone or denoiser from a file, strictly.

    Parameters that exist for an output alone (``output_layers`` of the class) may be absent from
    the file, and it may have those of other outputs.

    Args:
        model (nn.Module): The model, changed in place.
        source (str | Path): ``.pth`` or ``.safetensors``, a file or an ``http(s)`` URL, which is
            kept in torch's hub folder; of the model alone, or of a whole detector, segmentor or
            classifier with it under ``backbone.``.

    Raises:
        ValueError: If the file cannot be read, or is not of this model.
    """
    state = read_state(_local(str(source)))
    if any(key.startswith('backbone.') for key in state):
        state = {
            key.removeprefix('backbone.'): value
            for key, value in state.items()
            if key.startswith('backbone.')
        }
    optional = getattr(model, 'output_layers', ())
    wanted = model.state_dict()
    problems = dict(
        missing=[key for key in wanted if key not in state and not key.startswith(optional)],
        unexpected=[key for key in state if key not in wanted and not key.startswith(optional)],
        mismatched=[
            f'{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}'
            for key, tensor in wanted.items()
            if key in state and state[key].shape != tensor.shape
        ],
    )
    if any(problems.values()):
        reasons = '; '.join(
            f'{len(keys)} {kind}, such as {keys[0]}' for kind, keys in problems.items() if keys
        )
        raise ValueError(
            f'{source} does not hold the weights of this {type(model).__name__} ({reasons}); files '
            'of public code are converted by tools/convert_checkpoint.py.'
        )
    model.load_state_dict(state, strict=False)


def _local(source: str) -> Path:
    """The file itself, or where a URL was downloaded to."""
    url = urlparse(source)
    if url.scheme not in ('http', 'https'):
        return Path(source)
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(url.path).name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(source, str(path))
        except OSError as error:
            raise ValueError(f'{source} cannot be downloaded: {error}') from error
    return path
