"""Images of any size through every class, by itself and beside another in a batch."""

import numpy as np
import pytest
import torch

from helpers.models import MODELS, outputs, tiny_input, tiny_model

pytestmark = pytest.mark.slow

NUM_SIZES = 40
EXTREMES = [(1, 1), (1, 2), (2, 1), (1, 211), (211, 1), (3, 307), (31, 33), (33, 31), (63, 65)]


def sizes(seed: int) -> list[tuple[int, int]]:
    """Odd extremes, then sides from 1 to 200 px, small ones as often as large ones."""
    rng = np.random.default_rng(seed)
    found = list(EXTREMES)
    while len(found) < NUM_SIZES:
        height, width = (int(side) for side in np.exp(rng.uniform(0, np.log(200), 2)))
        if height * width < 5000:
            found.append((height, width))
    return found


@pytest.mark.parametrize('name', MODELS)
def test_any_size_is_finite_and_the_same_in_a_batch(figure, name):
    model = tiny_model(name)
    finite = alike = 0
    worst = 0.0
    wrong = []
    for size in sizes(list(MODELS).index(name)):
        inputs = tiny_input(model, size)
        together = outputs(model, inputs)
        finite += all(bool(out.isfinite().all()) for out in together)
        alone = outputs(model, inputs[1:])
        apart = max(difference(a[0], b[1]) for a, b in zip(alone, together))
        worst = max(worst, apart)
        if apart < 1e-5:
            alike += 1
        else:
            wrong.append((size, apart))
    figure('sizes, finite', NUM_SIZES, finite)
    figure('sizes, same in a batch', alike + len(wrong), alike, worst)
    assert not wrong
    assert finite == NUM_SIZES


def difference(left: torch.Tensor, right: torch.Tensor) -> float:
    """Largest difference of two maps, as a share of their largest number."""
    return float((left - right).abs().max() / right.abs().max().clamp(min=1e-6))
