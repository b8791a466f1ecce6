"""Datasets and transforms of pairs of noisy and clean images or clips."""

from .datasets import ClipFolder, RestorationFolder, SIDDBlocks, SIDDMedium
from .structures import RestorationSample
from .transforms import (
    AddGaussianNoise,
    LoadRestorationPair,
    PackRestorationInputs,
    RandomDihedral,
    RandomPatch,
    RandomTimeReversal,
)

__all__ = [
    'AddGaussianNoise',
    'ClipFolder',
    'LoadRestorationPair',
    'PackRestorationInputs',
    'RandomDihedral',
    'RandomPatch',
    'RandomTimeReversal',
    'RestorationFolder',
    'RestorationSample',
    'SIDDBlocks',
    'SIDDMedium',
]
