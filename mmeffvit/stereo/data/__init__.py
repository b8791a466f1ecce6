"""Rectified pairs of images with disparity and occlusion."""

from .datasets import FlyingThings3D, KittiStereo, MiddleburyStereo
from .layers import LayeredStereo
from .occlusion import occlusion_of
from .structures import StereoSample
from .transforms import (
    LoadStereo,
    PackStereo,
    RandomStereoCrop,
    RandomSwapMirror,
    StereoPhotometric,
    read_disparity,
    write_disparity,
)

__all__ = [
    'FlyingThings3D',
    'KittiStereo',
    'LayeredStereo',
    'LoadStereo',
    'MiddleburyStereo',
    'PackStereo',
    'RandomStereoCrop',
    'RandomSwapMirror',
    'StereoPhotometric',
    'StereoSample',
    'occlusion_of',
    'read_disparity',
    'write_disparity',
]
