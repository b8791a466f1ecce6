"""Parts of matchers: features, transformer, coarse and fine matching."""

from .coarse import CellMatches, CoarseMatching, DualSoftmax, OptimalTransport
from .fine import FineMatching
from .resnet_fpn import ResNetFPN
from .transformer import CrossBlock, LoFTRBlock, MatchingTransformer

__all__ = [
    'CellMatches',
    'CoarseMatching',
    'CrossBlock',
    'DualSoftmax',
    'FineMatching',
    'LoFTRBlock',
    'MatchingTransformer',
    'OptimalTransport',
    'ResNetFPN',
]
