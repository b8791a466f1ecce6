"""Parts of stereo networks: features, attention along lines, regression of disparity."""

from .attention import EpipolarAttention, EpipolarTreeAttention
from .features import STTRFeatures, UNetFeatures
from .regression import ContextAdjustment, DisparityRegression, StereoOutput
from .transformer import StereoTransformer

__all__ = [
    'ContextAdjustment',
    'DisparityRegression',
    'EpipolarAttention',
    'EpipolarTreeAttention',
    'STTRFeatures',
    'StereoOutput',
    'StereoTransformer',
    'UNetFeatures',
]
