"""Counting parameters and multiply-adds."""

from .flops import Complexity, count_complexity
from .models import build_model, count_config, count_model, find_model, input_shape

__all__ = [
    'Complexity',
    'build_model',
    'count_complexity',
    'count_config',
    'count_model',
    'find_model',
    'input_shape',
]
