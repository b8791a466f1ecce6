"""Configs of OpenMMLab: the file, the framework that it is written for, its datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from .device import mmcv_has_cuda
from .requirements import require

SCOPES = ('mmdet', 'mmseg', 'mmpretrain', 'mmeffvit')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def read_config(path: str | Path) -> Config:
    """Read a config file.

    Raises:
        ValueError: If it does not exist.
        ImportError: If it inherits from a framework that is not installed.
    """
    if not Path(path).is_file():
        raise ValueError(f'{path} does not exist: give the path of a config file.')
    return Config.fromfile(path)


def activate_scope(cfg: Config) -> str:
    """Import the framework that ``cfg`` is written for.

    Args:
        cfg (Config): Its ``default_scope`` is one of ``SCOPES``.

    Returns:
        str: The scope.

    Raises:
        ValueError: If the scope is unknown, or a detector would meet a GPU that mmcv cannot use.
        ImportError: If its framework cannot be imported.
    """
    scope = cfg.get('default_scope')
    if scope not in SCOPES:
        raise ValueError(
            f'default_scope={scope!r} of the config is unknown: set it to one of '
            f'{", ".join(SCOPES)}.'
        )
    require(scope)
    import_module(scope)
    if scope == 'mmdet' and get_device() == 'cuda' and not mmcv_has_cuda():
        raise ValueError(
            'there is a GPU, but mmcv has no CUDA operators and detectors need them: build it '
            "again with nvcc, or hide the GPU by CUDA_VISIBLE_DEVICES=''."
        )
    return scope


def iter_datasets(cfg: Config, loaders: Sequence[str] = LOADERS) -> Iterator[ConfigDict]:
    """Every dataset of ``loaders``, wrappers such as ``RepeatDataset`` taken off."""
    for loader in loaders:
        if cfg.get(loader) is not None:
            yield from _unwrapped(cfg[loader]['dataset'])


def _unwrapped(dataset: ConfigDict) -> Iterator[ConfigDict]:
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets', [])
    if not inner:
        yield dataset
    for child in inner:
        yield from _unwrapped(child)
