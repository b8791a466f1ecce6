"""Elastic training of LookupViT: one set of weights for several numbers of compressed tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..registry import HOOKS

if TYPE_CHECKING:
    from ..backbones import LookupViT


@HOOKS.register_module()
class CompressedSizeHook(Hook):
    """Sample the compressed grid of a :class:`LookupViT` anew in every training iteration.

    The grid depends only on the seed and the iteration: it is the same on all ranks, in a resumed
    run, and for the whole batch. Validation, testing and everything after training use the size of
    the config. The paper trains so; sampling uniformly is our choice.

    Args:
        sizes (Sequence[Sequence[int]], optional): Grids ``(h, w)`` to sample from.
        ratios (Sequence[int], optional): Instead, ratios of lookup to compressed side, for inputs
            of many sizes.
        seed (int, optional): Seed of the sampling; by default that of the run.

    Raises:
        ValueError: Unless exactly one of ``sizes`` and ``ratios`` is given.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[int]] | None = None,
        ratios: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> None:
        if bool(sizes) == bool(ratios):
            raise ValueError(f'Give either sizes or ratios, not sizes={sizes}, ratios={ratios}.')
        self.choices = [(size, None) for size in sizes or ()] + [(None, r) for r in ratios or ()]
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        """Store the size of the config, and agree on one seed for all ranks."""
        # With diff_rank_seed every rank has another seed.
        seeds = [runner.seed if self.seed is None else self.seed]
        broadcast_object_list(seeds)
        self.seed = seeds[0]
        backbone = _backbone(runner)
        self.nominal = backbone.compressed_size, backbone.compressed_ratio

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Sample the grid of this iteration."""
        assert self.seed is not None
        index = np.random.default_rng([self.seed, runner.iter]).integers(len(self.choices))
        _backbone(runner).set_compressed_size(*self.choices[index])

    def before_val_epoch(self, runner: Runner) -> None:
        """Restore the size of the config; without training before, it is still set."""
        if hasattr(self, 'nominal'):
            _backbone(runner).set_compressed_size(*self.nominal)

    def after_train(self, runner: Runner) -> None:
        """Restore the size of the config."""
        _backbone(runner).set_compressed_size(*self.nominal)


def _backbone(runner: Runner) -> LookupViT:
    model: Any = runner.model
    return (model.module if is_model_wrapper(model) else model).backbone
