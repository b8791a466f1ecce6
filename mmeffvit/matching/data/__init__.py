"""Pairs of images with what maps one to the other."""

from .homographies import HomographyPairs
from .structures import PairSample
from .transforms import LoadImagePair, PackPair, ResizePair

__all__ = ['HomographyPairs', 'LoadImagePair', 'PackPair', 'PairSample', 'ResizePair']
