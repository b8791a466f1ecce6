"""Models by name: all that classes of the registry list in their ``zoo``."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import filter as matching
from pathlib import Path
from typing import TYPE_CHECKING

from .registry import MODELS

if TYPE_CHECKING:
    from torch import nn


def list_models(pattern: str = '*') -> list[str]:
    """Names for :func:`get_model`, family by family.

    Args:
        pattern (str): Shell pattern, such as ``'quadtree*'``.

    Returns:
        list[str]: The names that match, none if none does.
    """
    return matching(_entries(), pattern)


def get_model(name: str, pretrained: str | Path | None = None, **options) -> nn.Module:
    """Build a backbone or denoiser by name, without any of the frameworks.

    Args:
        name (str): One of :func:`list_models`.
        pretrained (str | Path, optional): File or URL of weights, ``.pth`` or ``.safetensors``,
            converted by ``tools/convert_checkpoint.py`` or trained here. Only tensors are loaded,
            and every one must fit; norms of other ``out_indices`` may be absent or in excess.
        **options: Arguments of the class, such as ``out_indices``.

    Returns:
        nn.Module: The model, in training mode. A backbone returns a tuple of maps, and says in
        ``out_channels`` and ``out_strides`` which.

    Raises:
        ValueError: If there is no such model, or the weights are not its own.

    Example:
        >>> backbone = mmeffvit.get_model('quadtree_b2', out_indices=(1, 2, 3))
        >>> features = backbone(torch.rand(1, 3, 480, 640))
    """
    entries = _entries()
    if name not in entries:
        near = ', '.join(get_close_matches(name, entries)) or 'none is near'
        raise ValueError(
            f'There is no model {name!r} ({near}); mmeffvit.list_models() gives all names.'
        )
    model_class, arguments = entries[name]
    model = model_class(**{**arguments, **options})
    if pretrained is not None:
        from .checkpoints import load_weights

        load_weights(model, pretrained)
    return model


def _entries() -> dict[str, tuple[type[nn.Module], dict]]:
    """Name to class and arguments."""
    MODELS.import_from_location()
    return {
        name: (model_class, arguments)
        for model_class in MODELS.module_dict.values()
        for name, arguments in vars(model_class).get('zoo', {}).items()
    }
