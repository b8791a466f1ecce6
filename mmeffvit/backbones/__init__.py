"""Backbones, one file per family; each returns a tuple of feature maps for ``out_indices``."""

from .cswin import CSWinTransformer
from .dualtoken import DualTokenViT
from .hierarchical import HierarchicalTransformer
from .lightvit import LightViT
from .lookupvit import LookupViT
from .pvt import PVT, PVTv2
from .pyramid import PyramidTransformer
from .quadtree import QuadTreeTransformer
from .skipat import SkipAtPVT, SkipAtViT
from .slide import SlideCSwin, SlidePVT, SlidePVTv2, SlideSwin
from .swin import SwinTransformer
from .two_stream import TwoStreamTransformer
from .vit import VisionTransformer

__all__ = [
    'PVT',
    'CSWinTransformer',
    'DualTokenViT',
    'HierarchicalTransformer',
    'LightViT',
    'LookupViT',
    'PVTv2',
    'PyramidTransformer',
    'QuadTreeTransformer',
    'SkipAtPVT',
    'SkipAtViT',
    'SlideCSwin',
    'SlidePVT',
    'SlidePVTv2',
    'SlideSwin',
    'SwinTransformer',
    'TwoStreamTransformer',
    'VisionTransformer',
]
