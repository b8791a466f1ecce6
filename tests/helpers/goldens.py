"""Recorded outputs of the reference implementations, see ``tests/data/goldens/README.md``."""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

IN_REPOSITORY = Path(__file__).parents[1] / 'data' / 'goldens'
GOLDENS = Path(os.environ.get('MMEFFVIT_GOLDENS', IN_REPOSITORY))


def find_golden(name: str) -> Path:
    """Path of a recorded file, e.g. ``'selfsup/golden_cider.json'``; skip the test without it."""
    path = GOLDENS / name
    if not path.is_file():
        pytest.skip(f'the recorded reference outputs are absent ({path})')
    return path


def load_golden(name: str) -> dict:
    """Load one recorded file, e.g. ``'quadtree/golden_ops.pt'``; skip the test without it."""
    return torch.load(find_golden(name), weights_only=True)


@functools.cache
def recipe() -> ModuleType:
    """The module that refills weights and inputs from names and seeds."""
    path = IN_REPOSITORY / 'golden_recipe.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest entry."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def require_golden(name: str) -> dict:
    """Load one recorded file that is in the repository; fail the test without it."""
    path = GOLDENS / name
    assert path.is_file(), f'the recorded reference outputs are absent ({path})'
    return torch.load(path, weights_only=True)
