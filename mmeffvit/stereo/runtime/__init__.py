"""What trains, evaluates and applies stereo networks."""

from .files import depth_of, find_stereo_pairs, write_stereo_files
from .losses import StereoLoss
from .matcher import StereoMatcher, StereoResult, colour_disparity
from .metrics import StereoError
from .model import StereoMatching, StereoPreprocessor

__all__ = [
    'StereoError',
    'StereoLoss',
    'StereoMatcher',
    'StereoMatching',
    'StereoPreprocessor',
    'StereoResult',
    'colour_disparity',
    'depth_of',
    'find_stereo_pairs',
    'write_stereo_files',
]
