"""Checkpoint hooks that survive killed runs and non-finite losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.dist import all_reduce, is_distributed, is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..registry import HOOKS
from ..utils.atomic import remove_partials, write_text

#: Beside ``state_dict`` and ``optimizer``: gradients that wait for an optimizer step.
GRADIENTS = 'gradients'


class NonFiniteError(ValueError):
    """Raised if the loss or the weights of a run are not finite."""


# In mmengine's own registry, so that configs of every framework find it.
@ROOT_HOOKS.register_module(name='CheckpointHook', force=True)
class CheckpointHook(_CheckpointHook):
    """Save checkpoints so that there is a whole one at every instant.

    It takes the place of mmengine's hook of the same name in every config. A new checkpoint is
    whole on disk before an old one is deleted, also with ``max_keep_ckpts=1`` and for the best one.
    Weights that are not finite are not saved. Where gradients are accumulated over several
    iterations, those that wait for the optimizer step are saved too, so that a resumed run ends
    like one that was not interrupted. Of several processes their mean is saved, which is what the
    step takes; equal but for rounding. A sharded run says that they are lost.
    """

    def __init__(self, interval: int = -1, **kwargs) -> None:
        if not isinstance(interval, int):
            raise ValueError(f'interval={interval!r} of checkpoints must be a whole number.')
        super().__init__(interval, **kwargs)
        self._gradients: dict[str, torch.Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Also delete what a killed run left half-written."""
        super().before_train(runner)
        if is_main_process() and Path(self.out_dir).is_dir():
            remove_partials(self.out_dir)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not _is_finite(runner.model):
            runner.logger.error(
                f'Checkpoint {self.filename_tmpl.format(step)} is not saved: the weights are not '
                f'finite. The last one is {self.last_ckpt}.'
            )
            return
        outdated = []
        if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(self.file_backend.join_path(self.out_dir, name))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._gradients = _waiting_gradients(runner)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        write_text(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        for old in outdated:
            name = self.filename_tmpl.format(old)
            self._remove(str(self.file_backend.join_path(self.out_dir, name)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not _is_finite(runner.model):
            return
        self._gradients = _waiting_gradients(runner)
        with self._removed_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removed_afterwards(self) -> Iterator[None]:
        """Put off what mmengine deletes to make room, until the new file is there."""
        backend, later = self.file_backend, []
        self.file_backend = _Deferred(backend, later)
        try:
            yield
        finally:
            self.file_backend = backend
        kept = {self.last_ckpt, getattr(self, 'best_ckpt_path', None)}
        kept.update(getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in later:
            if path not in kept:
                self._remove(path)

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # sharded
            cast(Any, self.file_backend).rmtree(path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save gradients that wait for the optimizer step."""
        if 'optimizer' in checkpoint and self._gradients:
            checkpoint[GRADIENTS] = self._gradients

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put such gradients back; give weights that are not wrapped the wrapper hooks expect."""
        if 'state_dict' not in checkpoint:
            state = dict(checkpoint)
            checkpoint.clear()
            checkpoint['state_dict'] = state
        gradients = checkpoint.get(GRADIENTS)
        if not gradients or not runner._resume:
            return
        parameters = dict(_bare(runner.model).named_parameters())
        for name, gradient in gradients.items():
            if name in parameters and parameters[name].shape == gradient.shape:
                parameters[name].grad = gradient.to(parameters[name])


class _Deferred:
    """A file backend that notes what it should delete."""

    def __init__(self, backend: Any, later: list[str]) -> None:
        self._backend, self._later = backend, later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._later.append(path)

    rmtree = remove


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop a run whose loss is not finite.

    ``tools/train.py`` adds it to every run. The loss of an iteration is checked in the next one,
    so that a GPU is not waited for.

    Args:
        patience (int): Iterations in a row whose loss may be NaN or infinite.
    """

    priority = 'VERY_HIGH'

    def __init__(self, patience: int = 3) -> None:
        self.patience = patience

    def before_train(self, runner: Runner) -> None:
        """Start to count."""
        self._streak = 0
        self._previous: tuple[int, torch.Tensor] | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the previous loss, and keep this one.

        Raises:
            NonFiniteError: After ``patience`` iterations.
        """
        self._check(runner)
        loss = (outputs or {}).get('loss')
        if isinstance(loss, torch.Tensor):
            self._previous = runner.iter, torch.isfinite(loss.detach()).all()

    def after_train(self, runner: Runner) -> None:
        """Check the last loss."""
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        if self._previous is None:
            return
        iteration, finite = self._previous
        self._streak = 0 if finite else self._streak + 1
        if self._streak < self.patience:
            return
        first = iteration - self._streak + 2
        raise NonFiniteError(
            f'The loss is not finite since iteration {first}: lower the learning rate, clip '
            'gradients or train without --amp, and continue with --resume; checkpoints of before '
            f'are in {runner.work_dir}. --ignore-nonfinite goes on.'
        )


def _is_between_steps(runner: Runner) -> bool:
    """Whether gradients of earlier iterations wait for an optimizer step."""
    wrapper: Any = getattr(runner, 'optim_wrapper', None)
    if getattr(wrapper, '_accumulative_counts', 1) == 1:
        return False
    return not wrapper.should_update()


def _waiting_gradients(runner: Runner) -> dict[str, torch.Tensor]:
    """Gradients that wait for the optimizer step, on the CPU; all processes have to call this."""
    if not _is_between_steps(runner):
        return {}
    if is_distributed() and not isinstance(runner.model, DistributedDataParallel):
        runner.logger.warning(
            'This checkpoint is between two optimizer steps, and the gradients of a sharded model '
            'are not saved: choose an interval that is a multiple of accumulative_counts to resume '
            'exactly.'
        )
        return {}
    parameters = dict(_bare(runner.model).named_parameters())
    there = torch.tensor([float(p.grad is not None) for p in parameters.values()])
    there = there.to(next(iter(parameters.values())).device)
    all_reduce(there, 'max')  # a process may not have used them all
    found = {}
    for (name, parameter), is_there in zip(parameters.items(), there.tolist()):
        if is_there:
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            gradient = gradient.detach().clone()
            all_reduce(gradient, 'mean')
            found[name] = gradient.cpu()
    return found


def _is_finite(model: nn.Module) -> bool:
    """Whether all weights are finite, on all processes: shards differ, the decision must not."""
    tensors = [*model.parameters(), *model.buffers()]
    finite = all(bool(t.detach().isfinite().all()) for t in tensors if t.is_floating_point())
    flag = torch.tensor(float(finite))
    all_reduce(flag, 'min')
    return bool(flag)


def _bare(model: nn.Module) -> nn.Module:
    return cast(nn.Module, model.module) if is_model_wrapper(model) else model
