"""Configs of OpenMMLab: the file, the framework that it is written for, its datasets."""

from __future__ import annotations

import re
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
        ValueError: If it does not exist, or it or one of its bases cannot be read; configs are
            code, so whatever they raise is meant.
        ImportError: If it inherits from a framework that is not installed.
    """
    if not Path(path).is_file():
        raise ValueError(f'{path} does not exist: give the path of a config file.')
    try:
        return Config.fromfile(path)
    except ImportError as error:
        if 'custom modules' not in str(error):
            raise
        reason = str(error.__cause__ or error).partition('\n')[0]
        raise ValueError(f'{path} cannot be read: custom_imports: {reason}.') from error
    except RecursionError:
        raise ValueError(f'{path} inherits from itself: mend its _base_.') from None
    except SyntaxError as error:
        place = f'line {error.lineno}: ' if error.lineno else ''
        raise ValueError(f'{path} or one of its bases is no Python: {place}{error.msg}.') from error
    except FileNotFoundError as error:
        found = re.search(r'[\'"](.+?)[\'"]', str(error))
        base = found[1] if found else error
        raise ValueError(f'{path} inherits from {base}, which does not exist.') from error
    except Exception as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ValueError(f'{path} cannot be read: {type(error).__name__}: {reason}') from error


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
