"""Training one set of weights for several numbers of compressed tokens."""

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
    """Draw the compressed grid of a :class:`LookupViT` anew in every training iteration.

    The grid depends on the seed and the iteration only: it is the same on all ranks, in a run that
    is resumed, and for the whole batch. Validation, testing and what comes after training use the
    size of the config. The published text trains so; the uniform law is our choice.

    Args:
        sizes (Sequence[Sequence[int]], optional): Grids ``(h, w)`` to draw from.
        ratios (Sequence[int], optional): Instead, ratios of lookup to compressed side, for inputs
            of many sizes.
        seed (int, optional): Seed of the draws; by default that of the run.

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
        """Remember the size of the config, and agree on a seed."""
        # Runs may give each rank a seed of its own.
        seeds = [runner.seed if self.seed is None else self.seed]
        broadcast_object_list(seeds)
        self.seed = seeds[0]
        backbone = _backbone(runner)
        self.nominal = backbone.compressed_size, backbone.compressed_ratio

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Draw."""
        assert self.seed is not None
        index = np.random.default_rng([self.seed, runner.iter]).integers(len(self.choices))
        _backbone(runner).set_compressed_size(*self.choices[index])

    def before_val_epoch(self, runner: Runner) -> None:
        """Go back to the size of the config; without training before, it is still set."""
        if hasattr(self, 'nominal'):
            _backbone(runner).set_compressed_size(*self.nominal)

    def after_train(self, runner: Runner) -> None:
        """Go back to the size of the config."""
        _backbone(runner).set_compressed_size(*self.nominal)


def _backbone(runner: Runner) -> LookupViT:
    model: Any = runner.model
    return (model.module if is_model_wrapper(model) else model).backbone
