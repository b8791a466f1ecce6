"""mmengine's checkpoint functions, replaced so that no checkpoint is trusted and none is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmengine.runner import checkpoint as original
from torch import Tensor, nn

from . import write
from .index import SCHEME
from .inspection import CheckpointError
from .latest import find_latest_checkpoint
from .load import fill, insist
from .read import read_checkpoint, unwrap


def protect_mmengine() -> None:
    """Read every checkpoint that mmengine and the frameworks load by :func:`read_checkpoint`.

    mmengine's fork reads a file that ``weights_only`` refuses again without it, and the original
    never asks for it before PyTorch 2.6. The loaders of all address schemes are replaced, wherever
    they have been imported to, with what they are made of; so is the function that fills models,
    by one that refuses another model's weights and says what it filled; the function that saves,
    by one that leaves whole files only; and the one that finds what to resume. Schemes that users
    registered are theirs. ``mmeffvit://NAME`` becomes an address of published weights. Importing
    ``mmeffvit`` calls this once.
    """
    replaced = {
        'find_latest_checkpoint': find_latest_checkpoint,
        'load_state_dict': load_state_dict,
        'save_checkpoint': _saving(original.save_checkpoint),
    }
    for name, loader in vars(original).items():
        if name.startswith('load_from_') and callable(loader):
            replaced[name] = _safe(loader)
    if hasattr(original, '_safe_torch_load'):  # the fork's
        replaced['_safe_torch_load'] = _safe(original._safe_torch_load)
    replaced['load_url'] = wraps(original.load_url)(_load_url)
    schemes = original.CheckpointLoader._schemes
    for scheme, loader in schemes.items():
        if loader.__module__.partition('.')[0] == 'mmengine':
            schemes[scheme] = replaced.get(loader.__name__) or _safe(loader)
    for name, function in replaced.items():
        rebind(name, getattr(original, name), function)
    original.CheckpointLoader.register_scheme(SCHEME, load_from_mmeffvit, force=True)


def rebind(name: str, old: Callable, new: Callable) -> None:
    """Replace a function in every module that has imported it."""
    for module in list(sys.modules.values()):
        if getattr(module, '__dict__', {}).get(name) is old:
            setattr(module, name, new)


def load_from_mmeffvit(filename: str, map_location: Any = None, *args, **kwargs) -> Any:
    """Load published weights, ``mmeffvit://NAME``, for mmengine."""
    return load_checkpoint(filename, map_location)


def _safe(loader: Callable) -> Callable:
    @wraps(loader)
    def load(filename: Any, map_location: Any = None, *args, **kwargs) -> Any:
        return load_checkpoint(filename, kwargs.get('map_location', map_location))

    return load


def _load_url(
    url: str, model_dir: str | None = None, map_location: Any = None, *args, **kwargs
) -> Any:
    return load_checkpoint(url, map_location)


def _saving(remote: Callable) -> Callable:
    @wraps(remote)
    def save_checkpoint(
        checkpoint: dict,
        filename: str,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
    ) -> None:
        local = file_client_args is None and isinstance(
            get_file_backend(filename, backend_args=backend_args), LocalBackend
        )
        if local:
            write.save_checkpoint(checkpoint, filename)
        else:
            remote(checkpoint, filename, file_client_args, backend_args)

    return save_checkpoint


def load_checkpoint(source: Any, map_location: Any = None) -> Any:
    """Read a checkpoint for mmengine: the weights are under ``state_dict`` if they are wrapped."""
    content = read_checkpoint(source, map_location)
    if isinstance(content, dict) and 'state_dict' not in content:
        try:
            state = unwrap(content)
        except ValueError:
            return content  # tensors of another kind, such as embeddings
        if state.keys() != content.keys():
            content = {**content, 'state_dict': state}
    if str(source).startswith('mmcls://'):
        return original._process_mmcls_checkpoint(content)
    return content


def load_state_dict(
    module: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = False, logger: Any = None
) -> None:
    """Fill a model as mmengine does, say what was filled, and refuse another model's weights.

    Args:
        module (nn.Module): The model.
        state_dict (Mapping[str, Tensor]): Its weights.
        strict (bool): Refuse whatever does not fit.
        logger (optional): Of :func:`mmengine.logging.print_log`.

    Raises:
        CheckpointError: If they are another model's.
    """
    loaded = fill(module, state_dict, 'the checkpoint')
    insist(loaded)
    if strict and not loaded.is_exact:
        raise CheckpointError(f'strict loading: {loaded}.')
    print_log(f'{loaded}.', logger, loaded.level)
