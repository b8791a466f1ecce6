"""Hooks and optimizer constructors."""

from .compressed_size import CompressedSizeHook

__all__ = ['CompressedSizeHook']
