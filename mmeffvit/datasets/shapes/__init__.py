"""The shapes dataset: one deterministic generator, a small honest dataset for every task."""

from .dataset import TASKS, ShapesConfig, make_shapes
from .scene import CLASSES, PALETTE

__all__ = ['CLASSES', 'PALETTE', 'TASKS', 'ShapesConfig', 'make_shapes']
