"""What trains, evaluates and applies matchers."""

from .losses import CoarseMatchingLoss, FineMatchingLoss
from .model import FeatureMatcher, PairPreprocessor

__all__ = ['CoarseMatchingLoss', 'FeatureMatcher', 'FineMatchingLoss', 'PairPreprocessor']
