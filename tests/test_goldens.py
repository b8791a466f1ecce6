"""The recorded outputs are few, hold no code, and their inputs are drawn as they were."""

from __future__ import annotations

import json

import pytest
import torch

from helpers.goldens import IN_REPOSITORY, recipe

FILES = sorted(path for path in IN_REPOSITORY.rglob('golden_*') if path.suffix != '.py')
LIMIT = 8_000_000
#: Sums of what the recipe's first version draws.
IMAGE_SUM = -1589.7659600703046
STATE_SUMS = {
    'a.weight': 0.06968012265861034,
    'a.bias': 0.10232401499524713,
    'n.running_var': 6.2030333280563354,
    'table': -0.40706240106374025,
    'n': 4.169663906097412,
}


def test_they_are_few_enough_for_a_repository():
    assert len(FILES) > 40
    assert sum(path.stat().st_size for path in FILES) < LIMIT


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_they_hold_no_code(path):
    if path.suffix == '.json':
        assert json.loads(path.read_text())
    else:
        assert torch.load(path, weights_only=True)


def test_the_recipe_draws_what_was_drawn():
    """Constants of its first version: no library may change them."""
    make = recipe()
    image = make.make_input((2, 3, 33, 41), 7)
    assert image.double().sum().item() == pytest.approx(IMAGE_SUM, abs=1e-6)
    shapes = dict(zip(STATE_SUMS, [(4, 3), (4,), (4,), (2, 2), (4,)]))
    sums = {key: value.double().sum().item() for key, value in make.fill_state(shapes).items()}
    assert sums == pytest.approx(STATE_SUMS, abs=1e-6)
