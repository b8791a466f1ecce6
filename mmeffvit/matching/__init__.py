"""Matching of two images: networks, data, and what trains and applies them."""

from .data import PairSample
from .networks import (
    CrossBlock,
    DualSoftmax,
    FineMatching,
    LoFTRBlock,
    MatchingTransformer,
    OptimalTransport,
    ResNetFPN,
)
from .runtime import CoarseMatchingLoss, FeatureMatcher, FineMatchingLoss, PairPreprocessor

__all__ = [
    'CoarseMatchingLoss',
    'CrossBlock',
    'DualSoftmax',
    'FeatureMatcher',
    'FineMatching',
    'FineMatchingLoss',
    'LoFTRBlock',
    'MatchingTransformer',
    'OptimalTransport',
    'PairPreprocessor',
    'PairSample',
    'ResNetFPN',
]
