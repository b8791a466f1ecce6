"""Runs killed at random moments: a whole checkpoint is left, and the end is the same."""

import random

import pytest
import torch

from helpers import forked
from mmeffvit.checkpoints import read_checkpoint
from mmeffvit.checkpoints.latest import find_latest_checkpoint

pytestmark = pytest.mark.slow

ROUNDS = 50
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer')


def train(folder, seed, calls, options, ema):
    """Train, killed at a call; returns the exit code and, of a run that ends, its calls."""
    here, there = forked.pipe()
    code = forked.ended(forked.start(forked.train, folder, seed, calls, options, ema, there))
    return code, here.recv() if code == 0 else None


def content(folder):
    """What the last checkpoint of a run holds."""
    # A kill between writing a checkpoint and deleting the one before leaves one more.
    assert len(list(folder.glob('*.pth'))) <= 3
    found = read_checkpoint(find_latest_checkpoint(folder))
    return {key: found[key] for key in COMPARED if key in found}


@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
@pytest.mark.parametrize('ema', [True, False], ids=['averaged', 'plain'])
def test_killed_runs_end_like_whole_ones(figure, tmp_path, by_epoch, ema):
    """Of every fifth round the resumed run is killed, too."""
    options = dict(
        by_epoch=by_epoch,
        checkpoint=dict(max_keep_ckpts=1),
        wrapper=dict(accumulative_counts=3),
    )
    code, calls = train(tmp_path / 'whole', 0, 0, options, ema)
    assert code == 0
    whole = content(tmp_path / 'whole')
    rng = random.Random(by_epoch + 2 * ema)
    kills = survived = equal = 0
    for number in range(by_epoch + 2 * ema, ROUNDS, 4):
        folder = tmp_path / str(number)
        saved = False
        for attempt in range(2 if number % 5 == 0 else 1):
            # Other weights in every start but the first, and as long as nothing is saved.
            seed = attempt if saved else 0
            code, _ = train(folder, seed, rng.randrange(1, calls // (attempt + 1)), options, ema)
            if code == 0:
                break
            assert code == -9
            kills += 1
            found = find_latest_checkpoint(folder)
            survived += found is not None or not saved
            saved = found is not None
        code, _ = train(folder, 9 if saved else 0, 0, options, ema)
        try:
            assert code == 0
            torch.testing.assert_close(content(folder), whole, rtol=0, atol=0)
        except AssertionError:
            continue
        equal += 1
    rounds = len(range(by_epoch + 2 * ema, ROUNDS, 4))
    figure('killed, a whole checkpoint is left', kills, survived)
    figure('killed and resumed, bit-equal', rounds, equal)
    assert survived == kills
    assert equal == rounds
    assert kills >= rounds
