"""Runs of mmengine on a model of a few numbers, in this process."""

from __future__ import annotations

from typing import ClassVar

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset


class Points(Dataset):
    """Sixteen points and their labels."""

    metainfo: ClassVar = dict(classes=('a', 'b'))

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        return dict(x=torch.randn(3, generator=generator), y=index % 2)


class Net(BaseModel):
    """A linear classifier; ``poison`` is the iteration from which its loss is NaN."""

    def __init__(self, classes: int = 2, poison: int | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 4)
        self.head = nn.Linear(4, classes)
        self.poison = poison
        self.calls = 0

    def forward(self, x: Tensor, y: Tensor, mode: str = 'tensor') -> dict | list:
        """Loss or predictions."""
        scores = self.head(self.hidden(x).tanh())
        if mode == 'predict':
            return list(scores)
        loss = nn.functional.cross_entropy(scores, y)
        if self.poison is not None and self.calls >= self.poison:
            loss = loss * float('nan')
        self.calls += 1
        return dict(loss=loss)


class StopError(Exception):
    """Of :class:`StopAfter`."""


class StopAfter(Hook):
    """Ends a run after an iteration, as a kill between two would."""

    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Stop."""
        if runner.iter + 1 == self.iteration:
            raise StopError


def runner(work_dir, model: Net | None = None, hooks=(), checkpoint=None, wrapper=None, **options):
    """A runner over four epochs of four iterations, by iterations if ``by_epoch`` is False."""
    by_epoch = options.pop('by_epoch', True)
    loop = dict(by_epoch=True, max_epochs=4) if by_epoch else dict(by_epoch=False, max_iters=16)
    checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=by_epoch, **(checkpoint or {}))
    options.setdefault('randomness', dict(seed=0))
    if model is None:
        torch.manual_seed(0)
        model = Net()
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Points(),
            batch_size=4,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True),
        ),
        train_cfg=loop,
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1), **(wrapper or {})
        ),
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=list(hooks),
        experiment_name=f'{work_dir}-{id(model)}-{len(options)}',
        log_level='WARNING',
        **options,
    )
