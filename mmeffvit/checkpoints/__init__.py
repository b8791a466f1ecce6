"""Checkpoints of public code: reading them safely, converting their keys, checking the result."""

from .convert import FAMILIES, PARTS, convert
from .io import read_state, unwrap, write_state
from .keymap import Conversion, Drop, KeyMap, Rename

__all__ = [
    'FAMILIES',
    'PARTS',
    'Conversion',
    'Drop',
    'KeyMap',
    'Rename',
    'convert',
    'read_state',
    'unwrap',
    'write_state',
]
