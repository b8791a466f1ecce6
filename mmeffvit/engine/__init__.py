"""Hooks, optimizer constructors and strategies."""

from .compressed_size import CompressedSizeHook
from .fsdp import FSDPStrategy
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['CompressedSizeHook', 'FSDPStrategy', 'LayerDecayOptimWrapperConstructor']
