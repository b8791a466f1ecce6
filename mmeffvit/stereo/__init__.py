"""Stereo matching of rectified pairs: networks, data, and what trains and applies them."""

from .data import StereoSample
from .networks import (
    ContextAdjustment,
    DisparityRegression,
    EpipolarAttention,
    EpipolarTreeAttention,
    StereoTransformer,
    STTRFeatures,
    UNetFeatures,
)
from .runtime import StereoError, StereoLoss, StereoMatching, StereoPreprocessor

__all__ = [
    'ContextAdjustment',
    'DisparityRegression',
    'EpipolarAttention',
    'EpipolarTreeAttention',
    'STTRFeatures',
    'StereoError',
    'StereoLoss',
    'StereoMatching',
    'StereoPreprocessor',
    'StereoSample',
    'StereoTransformer',
    'UNetFeatures',
]
