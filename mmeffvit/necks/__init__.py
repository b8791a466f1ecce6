"""Necks: modules between a backbone and a head. They import only torch and mmengine."""

from .resize_levels import ResizeLevels
from .simple_feature_pyramid import SimpleFeaturePyramid
from .token_pooling import TokenPooling
from .transposed_fpn import TransposedFPN

__all__ = ['ResizeLevels', 'SimpleFeaturePyramid', 'TokenPooling', 'TransposedFPN']
