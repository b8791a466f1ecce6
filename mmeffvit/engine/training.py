"""The options of ``tools/train.py`` that change a config."""

import os

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import find_latest_checkpoint

from ..checkpoints import read_checkpoint
from ..utils.cli import UserError


def enable_amp(cfg: Config) -> None:
    """Train with automatic mixed precision.

    Raises:
        UserError: If there is no accelerator, or the config has an optimizer wrapper of its own.
    """
    if get_device() == 'cpu':
        raise UserError('--amp needs an accelerator and none is visible: train without it.')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp does not work with optim_wrapper.type={kind!r} of the config.')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by actual batch size over the config's.

    Raises:
        UserError: If the config does not say which batch size its learning rate is for.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError(
            '--auto-scale-lr needs the batch size the learning rate is for: '
            '--cfg-options auto_scale_lr.base_batch_size=16.'
        )
    cfg.auto_scale_lr.enable = True


def set_seed(cfg: Config, seed: int) -> None:
    """Seed the run, keeping the other settings of ``randomness``."""
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def enable_resume(cfg: Config, checkpoint: str) -> None:
    """Continue a run where a checkpoint left it.

    mmengine restores weights, optimizer, schedule, averaged weights and counters, but shuffles the
    data by a new random seed if the config has none. The seed of the first run is put back here.

    Args:
        cfg (Config): Its ``work_dir`` is set.
        checkpoint (str): A path, or ``'auto'`` for the last checkpoint of the work directory, if
            there is one.

    Raises:
        UserError: If the checkpoint is missing, damaged, or is no training checkpoint.
    """
    cfg.resume = True
    path = _last_checkpoint(cfg.work_dir) if checkpoint == 'auto' else checkpoint
    # Without a path mmengine looks in the work directory, and starts anew if nothing is there.
    cfg.load_from = path
    if path is None or '://' in path:
        return
    loaded = read_checkpoint(path)
    if not {'optimizer', 'meta'} <= loaded.keys():
        raise UserError(
            f'{path} holds no optimizer state and cannot be resumed: start from its weights with '
            f'--cfg-options load_from={path}.'
        )
    if cfg.get('randomness', {}).get('seed') is None and loaded['meta'].get('seed') is not None:
        set_seed(cfg, loaded['meta']['seed'])


def _last_checkpoint(work_dir: str) -> str | None:
    if not os.path.isfile(os.path.join(work_dir, 'last_checkpoint')):
        return None
    path = find_latest_checkpoint(work_dir)
    # The file holds the path of the day; the folder may have been moved since.
    moved = os.path.join(work_dir, os.path.basename(path))
    return path if os.path.isfile(path) else moved
