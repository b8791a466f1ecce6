"""Options of ``tools/train.py``, applied to a config."""

import os

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import find_latest_checkpoint

from ..checkpoints import read_checkpoint
from .errors import UserError


def enable_amp(cfg: Config) -> None:
    """Train with automatic mixed precision.

    Raises:
        UserError: If there is no accelerator, or the config sets another optimizer wrapper.
    """
    if get_device() == 'cpu':
        raise UserError('--amp needs an accelerator and none is visible: train without it.')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp does not work with optim_wrapper.type={kind!r} of the config.')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the actual batch size over that of the config.

    Raises:
        UserError: If the config does not state the batch size of its learning rate.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError(
            '--auto-scale-lr needs the batch size the learning rate is for: '
            '--cfg-options auto_scale_lr.base_batch_size=16.'
        )
    cfg.auto_scale_lr.enable = True


def set_seed(cfg: Config, seed: int) -> None:
    """Set the seed, keeping the other settings of ``randomness``."""
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def enable_resume(cfg: Config, checkpoint: str) -> None:
    """Resume a run from a checkpoint.

    mmengine restores weights, optimizer, schedule, averaged weights and counters, but draws a new
    random seed for the data order if the config has none. The seed of the first run is restored
    here.

    Args:
        cfg (Config): Its ``work_dir`` is set.
        checkpoint (str): A path, or ``'auto'`` for the last checkpoint of the work directory, if
            there is one.

    Raises:
        UserError: If the checkpoint is missing, damaged, or is no training checkpoint.
    """
    cfg.resume = True
    path = _last_checkpoint(cfg.work_dir) if checkpoint == 'auto' else checkpoint
    # Without a path mmengine searches the work directory, and starts anew if nothing is there.
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
    # The path in the file is stale if the folder has been moved.
    moved = os.path.join(work_dir, os.path.basename(path))
    return path if os.path.isfile(path) else moved
