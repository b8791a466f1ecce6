from types import SimpleNamespace

import pytest
import torch

from mmeffvit.backbones import LookupViT
from mmeffvit.engine import CompressedSizeHook

SIZES = [(2, 2), (3, 3), (2, 4)]


def _runner(seed=0, **options):
    model = torch.nn.Module()
    model.backbone = LookupViT(dict(embed_dims=16, depth=1, num_heads=1), **options)
    return SimpleNamespace(model=model, seed=seed, iter=0)


def _draws(hook, runner, start=0, count=30):
    hook.before_train(runner)
    drawn = []
    for runner.iter in range(start, start + count):
        hook.before_train_iter(runner, 0)
        backbone = runner.model.backbone
        drawn.append((backbone.compressed_size, backbone.compressed_ratio))
    return drawn


def test_the_sequence_follows_from_seed_and_iteration():
    first = _draws(CompressedSizeHook(SIZES), _runner())
    assert first == _draws(CompressedSizeHook(SIZES), _runner())
    assert {size for size, _ in first} == set(SIZES)
    # A resumed run goes on with the sequence, another seed has another.
    assert first[10:] == _draws(CompressedSizeHook(SIZES), _runner(), start=10, count=20)
    assert first != _draws(CompressedSizeHook(SIZES), _runner(seed=1))
    assert first == _draws(CompressedSizeHook(SIZES, seed=0), _runner(seed=7))


def test_validation_and_the_end_use_the_size_of_the_config():
    runner = _runner(compressed_size=(5, 5))
    hook = CompressedSizeHook(SIZES)
    hook.before_val_epoch(runner)  # without training before
    assert runner.model.backbone.compressed_size == (5, 5)
    for back in (hook.before_val_epoch, hook.after_train):
        _draws(hook, runner, count=1)
        assert runner.model.backbone.compressed_size in SIZES
        back(runner)
        assert runner.model.backbone.compressed_size == (5, 5)


def test_ratios():
    runner = _runner(compressed_ratio=4)
    hook = CompressedSizeHook(ratios=[2, 3])
    assert set(_draws(hook, runner)) == {(None, 2), (None, 3)}
    hook.after_train(runner)
    assert runner.model.backbone.compressed_ratio == 4


def test_either_sizes_or_ratios():
    for options in (dict(), dict(sizes=SIZES, ratios=[2])):
        with pytest.raises(ValueError, match='either'):
            CompressedSizeHook(**options)
