"""Hooks, optimizer constructors and strategies."""

from .checkpoint import CheckpointHook, FiniteLossHook
from .compressed_size import CompressedSizeHook
from .fsdp import FSDPStrategy
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'CheckpointHook',
    'CompressedSizeHook',
    'FSDPStrategy',
    'FiniteLossHook',
    'LayerDecayOptimWrapperConstructor',
]
