"""Between a backbone and a head; torch and mmengine only."""

from .resize_levels import ResizeLevels
from .simple_feature_pyramid import SimpleFeaturePyramid
from .token_pooling import TokenPooling
from .transposed_fpn import TransposedFPN

__all__ = ['ResizeLevels', 'SimpleFeaturePyramid', 'TokenPooling', 'TransposedFPN']
