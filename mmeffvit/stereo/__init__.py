"""Stereo matching of rectified pairs: networks, data, and what trains and applies them."""

from .data import (
    FlyingThings3D,
    KittiStereo,
    LayeredStereo,
    LoadStereo,
    MiddleburyStereo,
    PackStereo,
    RandomStereoCrop,
    RandomSwapMirror,
    StereoPhotometric,
    StereoSample,
    occlusion_of,
    read_disparity,
    write_disparity,
)
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
    'FlyingThings3D',
    'KittiStereo',
    'LayeredStereo',
    'LoadStereo',
    'MiddleburyStereo',
    'PackStereo',
    'RandomStereoCrop',
    'RandomSwapMirror',
    'STTRFeatures',
    'StereoError',
    'StereoLoss',
    'StereoMatching',
    'StereoPhotometric',
    'StereoPreprocessor',
    'StereoSample',
    'StereoTransformer',
    'UNetFeatures',
    'occlusion_of',
    'read_disparity',
    'write_disparity',
]
