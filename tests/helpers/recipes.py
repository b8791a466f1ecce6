"""Rules of weight decay, and the table of recipes of every family."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

from torch import nn

FOLDER = Path(__file__).parents[1] / 'configs' / 'recipes'
TABLE = 'relative_position_bias_table'


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm))


def called_norm(name: str, *_) -> bool:
    return 'norm' in name


def flat(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    return parameter.ndim <= 1


def nothing(*_) -> bool:
    return False


def norms(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    return is_norm(module)


def exempt(*rules: Callable | str) -> Callable:
    """What is exempt by any rule: a function, or a part of the name."""
    parts = tuple(rule for rule in rules if isinstance(rule, str))
    functions = [rule for rule in rules if not isinstance(rule, str)]

    def rule(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
        if any(part in name for part in parts):
            return True
        return any(function(name, parameter, module) for function in functions)

    return rule


def read_tables(name: str) -> dict:
    """Merge the table of this name of all files in ``tests/configs/recipes``, ``_shared`` last."""
    merged: dict = {}
    for path in sorted(FOLDER.glob('*.py'), key=lambda path: (path.stem == '_shared', path.stem)):
        new = runpy.run_path(str(path)).get(name, {})
        assert not merged.keys() & new.keys(), f'{path.name} repeats a pattern of {name}'
        merged |= new
    return merged


def first_match(rules: dict[str, object], name: str) -> object:
    """The value of the first pattern that matches the whole name."""
    return next(value for pattern, value in rules.items() if re.fullmatch(pattern, name))
