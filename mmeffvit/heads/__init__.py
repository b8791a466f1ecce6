"""Heads; those that extend a framework are registered only if it is installed."""

from ..utils.requirements import EXTRAS

__all__ = []

try:
    from .lookupvit import LookupViTClsHead
except ModuleNotFoundError as error:
    if (error.name or '').partition('.')[0] not in EXTRAS:  # not a missing library: a broken one
        raise
else:
    __all__ += ['LookupViTClsHead']
