"""What trains, evaluates and applies matchers."""

from .losses import CoarseMatchingLoss, FineMatchingLoss
from .metrics import HomographyAUC, MatchPrecision, PoseAUC, error_auc
from .model import FeatureMatcher, PairPreprocessor

__all__ = [
    'CoarseMatchingLoss',
    'FeatureMatcher',
    'FineMatchingLoss',
    'HomographyAUC',
    'MatchPrecision',
    'PairPreprocessor',
    'PoseAUC',
    'error_auc',
]
