"""What trains, evaluates and applies matchers."""

from .drawing import draw_matches, draw_overlay
from .export import MatcherGraph, export_matcher
from .files import find_pairs, match_files, read_intrinsics
from .losses import CoarseMatchingLoss, FineMatchingLoss
from .matcher import ImageMatches, Matcher
from .metrics import HomographyAUC, MatchPrecision, PoseAUC, error_auc
from .model import FeatureMatcher, PairPreprocessor

__all__ = [
    'CoarseMatchingLoss',
    'FeatureMatcher',
    'FineMatchingLoss',
    'HomographyAUC',
    'ImageMatches',
    'MatchPrecision',
    'Matcher',
    'MatcherGraph',
    'PairPreprocessor',
    'PoseAUC',
    'draw_matches',
    'draw_overlay',
    'error_auc',
    'export_matcher',
    'find_pairs',
    'match_files',
    'read_intrinsics',
]
