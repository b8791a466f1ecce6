"""Hosts, and one file per family; each returns a tuple of maps for ``out_indices``."""

from .pvt import PVT, PVTv2
from .pyramid import PyramidTransformer
from .quadtree import QuadTreeTransformer
from .swin import SwinTransformer
from .vit import VisionTransformer

__all__ = [
    'PVT',
    'PVTv2',
    'PyramidTransformer',
    'QuadTreeTransformer',
    'SwinTransformer',
    'VisionTransformer',
]
