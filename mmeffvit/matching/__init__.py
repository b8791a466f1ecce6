"""Matching of two images: networks, data, and what trains and applies them."""

from .data import HomographyPairs, LoadImagePair, PackPair, PairSample, ResizePair
from .networks import (
    CrossBlock,
    DualSoftmax,
    FineMatching,
    LoFTRBlock,
    MatchingTransformer,
    OptimalTransport,
    ResNetFPN,
)
from .runtime import (
    CoarseMatchingLoss,
    FeatureMatcher,
    FineMatchingLoss,
    HomographyAUC,
    MatchPrecision,
    PairPreprocessor,
    PoseAUC,
)

__all__ = [
    'CoarseMatchingLoss',
    'CrossBlock',
    'DualSoftmax',
    'FeatureMatcher',
    'FineMatching',
    'FineMatchingLoss',
    'HomographyAUC',
    'HomographyPairs',
    'LoFTRBlock',
    'LoadImagePair',
    'MatchPrecision',
    'MatchingTransformer',
    'OptimalTransport',
    'PackPair',
    'PairPreprocessor',
    'PairSample',
    'PoseAUC',
    'ResNetFPN',
    'ResizePair',
]
