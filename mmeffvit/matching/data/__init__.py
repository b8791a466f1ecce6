"""Pairs of images with what maps one to the other."""

from .datasets import HPatches, MegaDepthPairs, PairList, ScanNetPairs
from .homographies import HomographyPairs
from .sampler import PerSubsetSampler
from .structures import PairSample
from .transforms import LoadImagePair, PackPair, ResizePair

__all__ = [
    'HPatches',
    'HomographyPairs',
    'LoadImagePair',
    'MegaDepthPairs',
    'PackPair',
    'PairList',
    'PairSample',
    'PerSubsetSampler',
    'ResizePair',
    'ScanNetPairs',
]
