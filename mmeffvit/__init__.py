"""Efficient-attention backbones for mmdet, mmseg and mmpretrain in one plugin."""

from .utils.compat import enable_config_inheritance
from .version import __version__

enable_config_inheritance()

__all__ = ['__version__']
