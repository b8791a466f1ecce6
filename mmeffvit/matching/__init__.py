"""Matching of two images: networks, data, and what trains and applies them."""

from .data import (
    HomographyPairs,
    HPatches,
    LoadImagePair,
    MegaDepthPairs,
    PackPair,
    PairList,
    PairSample,
    PerSubsetSampler,
    ResizePair,
    ScanNetPairs,
)
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
    'HPatches',
    'HomographyAUC',
    'HomographyPairs',
    'LoFTRBlock',
    'LoadImagePair',
    'MatchPrecision',
    'MatchingTransformer',
    'MegaDepthPairs',
    'OptimalTransport',
    'PackPair',
    'PairList',
    'PairPreprocessor',
    'PairSample',
    'PerSubsetSampler',
    'PoseAUC',
    'ResNetFPN',
    'ResizePair',
    'ScanNetPairs',
]
