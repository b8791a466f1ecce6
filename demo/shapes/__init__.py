"""The shapes dataset: a deterministic generator of a small dataset for every task."""

from .dataset import TASKS, ShapesConfig, make_shapes
from .mosaics import TINTS
from .patterns import KINDS
from .scene import CLASSES, PALETTE

__all__ = ['CLASSES', 'KINDS', 'PALETTE', 'TASKS', 'TINTS', 'ShapesConfig', 'make_shapes']
