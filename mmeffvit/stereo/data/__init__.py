"""Rectified pairs of images with disparity and occlusion."""

from .structures import StereoSample

__all__ = ['StereoSample']
