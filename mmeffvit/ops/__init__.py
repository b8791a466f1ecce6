"""Functions on tensors; they know nothing of modules, registries or frameworks."""

from .dispatch import available_backends, use_backend
from .layout import (
    crop_tokens,
    from_quad,
    map_to_tokens,
    pad_tokens,
    to_quad,
    tokens_to_map,
)
from .quadtree import quadtree_attention, quadtree_fine

__all__ = [
    'available_backends',
    'crop_tokens',
    'from_quad',
    'map_to_tokens',
    'pad_tokens',
    'quadtree_attention',
    'quadtree_fine',
    'to_quad',
    'tokens_to_map',
    'use_backend',
]
