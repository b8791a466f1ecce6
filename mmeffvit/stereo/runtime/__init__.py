"""What trains, evaluates and applies stereo networks."""

from .losses import StereoLoss
from .metrics import StereoError
from .model import StereoMatching, StereoPreprocessor

__all__ = ['StereoError', 'StereoLoss', 'StereoMatching', 'StereoPreprocessor']
