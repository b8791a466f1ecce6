"""Counting parameters and multiply-adds."""

from .flops import Complexity, count_complexity

__all__ = ['Complexity', 'count_complexity']
