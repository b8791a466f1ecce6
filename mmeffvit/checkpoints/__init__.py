"""Checkpoints of public code: reading them safely, converting their keys, checking the result."""

from .convert import FAMILIES, PARTS, convert
from .io import read_state, unwrap, write_state
from .keymap import Conversion, Drop, KeyMap, Rename
from .load import load_pretrained

__all__ = [
    'FAMILIES',
    'PARTS',
    'Conversion',
    'Drop',
    'KeyMap',
    'Rename',
    'convert',
    'load_pretrained',
    'read_state',
    'unwrap',
    'write_state',
]
