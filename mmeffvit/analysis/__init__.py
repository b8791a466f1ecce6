"""Counting parameters and multiply-adds."""

from .flops import Complexity, count_complexity
from .models import count_config, count_model, input_shape

__all__ = [
    'Complexity',
    'count_complexity',
    'count_config',
    'count_model',
    'input_shape',
]
