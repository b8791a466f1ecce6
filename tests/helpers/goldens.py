"""Recorded outputs of the reference implementations: where they are, and how weights are refilled.

The folder is not part of the repository. Tests that need it skip, with the reason, where it is
absent; ``MMEFFVIT_GOLDENS`` names another place for it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

GOLDENS = Path(os.environ.get('MMEFFVIT_GOLDENS', Path(__file__).parents[3] / 'shared' / 'goldens'))


def load_golden(name: str) -> dict:
    """Load one recorded file, e.g. ``'quadtree/golden_ops.pt'``; skip the test without it."""
    path = GOLDENS / name
    if not path.is_file():
        pytest.skip(f'the recorded reference outputs are absent ({name})')
    return torch.load(path, weights_only=True)


def recipe():
    """The module that refills weights and inputs from names and seeds."""
    spec = importlib.util.spec_from_file_location('golden_recipe', GOLDENS / 'golden_recipe.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest entry."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()
