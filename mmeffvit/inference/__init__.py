"""Inference with trained models on images, folders and videos.

Importing this package lets the inferencers of mmdet, mmseg and mmpretrain find our models by name.
"""

from .names import enable_model_names
from .predictors import Classifier, Detector, Segmentor, build_predictor
from .run import infer

enable_model_names()

__all__ = ['Classifier', 'Detector', 'Segmentor', 'build_predictor', 'infer']
