"""Data flows one way: a subpackage imports only from those below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'mmeffvit'
#: What a subpackage may import beside itself and the modules that all may import.
BELOW = {
    'ops': set(),
    'layers': {'ops'},
    'backbones': {'ops', 'layers'},
    'necks': {'ops', 'layers'},
    'heads': {'ops', 'layers'},
    'checkpoints': {'ops', 'layers'},
    'engine': {'backbones'},
    'denoising': {'ops', 'layers', 'models', 'checkpoints'},
    'matching': {'ops', 'layers', 'models', 'checkpoints'},
    'stereo': {'ops', 'layers', 'models', 'checkpoints'},
    'inference': {'denoising', 'models', 'checkpoints'},
    'deployment': set(),
    'analysis': {'ops', 'layers', 'backbones', 'models'},
    'models': {'checkpoints'},
    'utils': set(),
    'cli': {'checkpoints', 'engine', 'models'},
}
SHARED = {'registry', 'zoo', 'utils', 'version'}


def imported_subpackages(path: Path) -> set[str]:
    """Subpackages that a module imports, by relative imports."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == len(parts):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.partition('.')[0] for name in names}
    return found


@pytest.mark.parametrize('name', sorted(BELOW))
def test_subpackage(name):
    paths = [*(PACKAGE / name).rglob('*.py'), *PACKAGE.glob(f'{name}.py')]
    assert paths
    for path in paths:
        above = imported_subpackages(path) - BELOW[name] - SHARED - {name}
        assert not above, f'{path.relative_to(PACKAGE)} imports {", ".join(sorted(above))}'


def test_every_subpackage_has_its_place():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or path.is_dir()}
    assert {name for name in found if name[0] not in '._'} == set(BELOW) | SHARED
