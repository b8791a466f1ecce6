"""Backbones, one file per family; each returns a tuple of feature maps for ``out_indices``."""

from .cswin import CSWinTransformer
from .dualtoken import DualTokenViT
from .hierarchical import HierarchicalTransformer
from .lightvit import LightViT
from .lookupvit import LookupViT
from .nat import NAT, DiNAT
from .pvt import PVT, MixVisionTransformer, PVTv2
from .pyramid import PyramidTransformer
from .quadtree import QuadTreeTransformer
from .skipat import SkipAtPVT, SkipAtViT
from .slide import SlideCSwin, SlideNAT, SlidePVT, SlidePVTv2, SlideSwin
from .swin import SwinTransformer
from .two_stream import TwoStreamTransformer
from .vit import VisionTransformer

__all__ = [
    'NAT',
    'PVT',
    'CSWinTransformer',
    'DiNAT',
    'DualTokenViT',
    'HierarchicalTransformer',
    'LightViT',
    'LookupViT',
    'MixVisionTransformer',
    'PVTv2',
    'PyramidTransformer',
    'QuadTreeTransformer',
    'SkipAtPVT',
    'SkipAtViT',
    'SlideCSwin',
    'SlideNAT',
    'SlidePVT',
    'SlidePVTv2',
    'SlideSwin',
    'SwinTransformer',
    'TwoStreamTransformer',
    'VisionTransformer',
]
