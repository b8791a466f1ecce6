"""Heads of our own; one that extends a framework is registered only where it is installed."""

from contextlib import suppress

__all__ = []

with suppress(ImportError):
    from .lookupvit import LookupViTClsHead

    __all__ += ['LookupViTClsHead']
