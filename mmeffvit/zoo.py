"""Names of models, declared by their classes in ``zoo`` with the arguments of each."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable
from fnmatch import filter as matching
from typing import TYPE_CHECKING

from .registry import MODELS

if TYPE_CHECKING:
    from torch import nn

#: Sizes in the names of models and configs, of architectures in the papers' words.
SIZES = {'tiny': 't', 'small': 's', 'medium': 'm', 'base': 'b', 'large': 'l'}


def list_models(pattern: str = '*') -> list[str]:
    """List the names for :func:`get_model`, family by family.

    Args:
        pattern (str): Shell pattern, such as ``'quadtree*'``.

    Returns:
        list[str]: The names that match, none if none does.
    """
    return matching(entries(), pattern)


def entries() -> dict[str, tuple[type[nn.Module], dict]]:
    """Map every model name to its class and arguments."""
    MODELS.import_from_location()
    return {
        name: (model_class, arguments)
        for model_class in MODELS.module_dict.values()
        for name, arguments in vars(model_class).get('zoo', {}).items()
    }


def zoo_of(family: str, archs: Iterable[str]) -> dict[str, dict]:
    """Declare one model per arch of a family, ``{family}_{size}``: the ``zoo`` of its class."""
    return {f'{family}_{SIZES.get(arch, arch)}': dict(arch=arch) for arch in archs}


def current_name(name: str, known: Container[str]) -> str:
    """Return the present name for one of version 0.1, with a warning; other names as they are.

    Args:
        name (str): Name of a model or of a family of checkpoints, such as ``'slide_swin_tiny'`` or
            ``'slide-swin'``.
        known (Container[str]): Present names.
    """
    stem, _, size = name.replace('-', '_').rpartition('_')
    renamed = f'{stem}_{SIZES.get(size, size)}'
    if name in known or renamed not in known:
        return name
    warnings.warn(
        f'{name!r} is deprecated; the name is {renamed!r}.', DeprecationWarning, stacklevel=3
    )
    return renamed


def find_arch(zoo: dict[str, dict], arch: str | dict) -> dict:
    """Return the settings of an arch by name; a dict is returned as it is.

    Raises:
        ValueError: If the zoo has no such arch.
    """
    if isinstance(arch, str):
        names = {SIZES.get(name, name): name for name in zoo}
        arch = names.get(arch, arch)
        if arch not in zoo:
            raise ValueError(f'arch={arch!r} is not one of {", ".join(zoo)}; or pass a dict.')
        return zoo[arch]
    return arch
