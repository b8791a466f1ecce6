"""Hooks and optimizer constructors."""

from .compressed_size import CompressedSizeHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['CompressedSizeHook', 'LayerDecayOptimWrapperConstructor']
