"""Pairs of images with what maps one to the other."""

from .structures import PairSample

__all__ = ['PairSample']
