"""Checkpoints: read as untrusted files, loaded with a report, converted from public code."""

from .convert import FAMILIES, PARTS, convert
from .inspection import CheckpointError
from .keymap import Conversion, Drop, KeyMap, Rename
from .load import Loaded, load_weights, partial_allowed
from .read import Weights, read_checkpoint, read_weights
from .write import write_weights

__all__ = [
    'FAMILIES',
    'PARTS',
    'CheckpointError',
    'Conversion',
    'Drop',
    'KeyMap',
    'Loaded',
    'Rename',
    'Weights',
    'convert',
    'load_weights',
    'partial_allowed',
    'read_checkpoint',
    'read_weights',
    'write_weights',
]
