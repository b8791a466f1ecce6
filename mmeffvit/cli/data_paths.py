"""Check that the data of a config exist, and move its data root."""

import os
from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from ..utils.config import LOADERS, iter_datasets
from .errors import UserError

EVALUATORS = ('val_evaluator', 'test_evaluator')
#: Settings of a config that are a dict, a list of dicts, or either.
_DICTS = (
    *('model', 'optim_wrapper', 'default_hooks', 'env_cfg', 'visualizer', 'randomness'),
    *('train_cfg', 'val_cfg', 'test_cfg', *LOADERS),
)
_LISTS = ('custom_hooks',)
_EITHER = ('param_scheduler', *EVALUATORS)


def _is_local(path: str) -> bool:
    return '://' not in path


def _dataset_paths(dataset: ConfigDict) -> Iterator[str]:
    root = dataset.get('data_root') or ''
    prefixes = dataset.get('data_prefix') or dataset.get('split') or ''
    parts = [dataset.get('ann_file') or '']
    parts += list(prefixes.values()) if isinstance(prefixes, dict) else [prefixes]
    for part in [part for part in parts if part] or ['']:
        path = os.path.join(root, part)
        if path and _is_local(path):
            yield path


def check_data(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that the files and folders of ``loaders`` and of their evaluators exist.

    Args:
        cfg (Config): The whole config. Its ``data_source``, if it has one, is the command or page
            that provides the data.
        loaders (Sequence[str]): Those of ``LOADERS`` that the run reads.

    Raises:
        UserError: Names the first path that is missing and how to get it.
    """
    remedy = f'get it by {cfg.data_source}' if 'data_source' in cfg else 'get the data'
    for path in _paths(cfg, loaders):
        if not os.path.exists(path):
            raise UserError(
                f'{path} does not exist: {remedy}, or name the folder of the data by '
                '--data-root PATH.'
            )


def check_settings(cfg: Config) -> None:
    """Check that the settings of a runner are of the kind that it reads.

    Args:
        cfg (Config): The whole config.

    Raises:
        UserError: Names the first that is not.
    """
    for name in (*_DICTS, *_LISTS, *_EITHER):
        value = cfg.get(name)
        if value is None or (isinstance(value, dict) and name not in _LISTS):
            continue
        listed = isinstance(value, (list, tuple)) and name not in _DICTS
        if not listed or not all(isinstance(entry, dict) for entry in value):
            kind = 'a list of dicts' if name in _LISTS else 'a dict'
            raise UserError(f'{name}={value!r} of the config must be {kind}.')
    for name in LOADERS:
        dataset = (cfg.get(name) or {}).get('dataset', {})
        if not isinstance(dataset, dict):
            raise UserError(f'{name}.dataset={dataset!r} of the config must be a dict.')
    seed = (cfg.get('randomness') or {}).get('seed')
    if not isinstance(seed, (int, type(None))):
        raise UserError(f'randomness.seed={seed!r} of the config must be a whole number.')
    for key in ('max_epochs', 'max_iters', 'val_interval'):
        value = (cfg.get('train_cfg') or {}).get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise UserError(f'train_cfg.{key}={value!r} must be a whole number from 1.')


def check_loaders(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that dataloaders are there and have a batch size.

    Args:
        cfg (Config): The whole config.
        loaders (Sequence[str]): Those of ``LOADERS`` that the run needs; a validation may be left
            out.

    Raises:
        UserError: Names what is missing or out of range.
    """
    for name in loaders:
        loader, loop = cfg.get(name), name.replace('dataloader', 'cfg')
        if loader is None:
            if name == 'val_dataloader':
                continue
            raise UserError(f'{cfg.filename} has no {name}: set one, and {loop}.')
        if cfg.get(loop) is None:
            raise UserError(f'{cfg.filename} has {name} but no {loop}: set {loop}=dict().')
        if 'dataset' not in loader:
            raise UserError(f'{name} of {cfg.filename} has no dataset: set {name}.dataset.')
        for key, least in (('batch_size', 1), ('num_workers', 0)):
            value = loader.get(key, least)
            if not isinstance(value, int) or value < least:
                raise UserError(f'{name}.{key}={value!r} must be a whole number from {least}.')


def _paths(cfg: Config, loaders: Sequence[str]) -> Iterator[str]:
    """Local paths that ``loaders`` and their evaluators read."""
    for dataset in iter_datasets(cfg, loaders):
        if (dataset.get('backend_args') or {}).get('backend', 'local') == 'local':
            yield from _dataset_paths(dataset)
    for name in EVALUATORS:
        if name.replace('evaluator', 'dataloader') not in loaders or cfg.get(name) is None:
            continue
        metrics = cfg[name] if isinstance(cfg[name], (list, tuple)) else [cfg[name]]
        for path in [metric.get('ann_file') or '' for metric in metrics]:
            if path and _is_local(path):
                yield path


def move_data_root(cfg: Config, root: str) -> None:
    """Read all data from ``root`` instead of the config's data root.

    mmengine fills ``data_root`` into paths while it parses a config, also in its bases, so that
    overriding the variable afterwards changes nothing. This moves every path of the dataloaders
    and evaluators that lies under the old root.

    Args:
        cfg (Config): Changed in place.
        root (str): The new root.

    Raises:
        UserError: If the config has no data root, or several.
    """
    roots = {os.path.normpath(d['data_root']) for d in iter_datasets(cfg) if d.get('data_root')}
    if len(roots) != 1:
        found = ', '.join(sorted(roots)) or 'none'
        raise UserError(
            f'--data-root needs a config with one data root, this one has {found}: set the '
            'data_root of each dataset by --cfg-options.'
        )
    old = roots.pop()
    for name in (*LOADERS, *EVALUATORS, 'data_root'):
        if cfg.get(name) is not None:
            cfg[name] = _moved(cfg[name], old, root)


def _moved(node, old: str, new: str):
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _moved(value, old, new)
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(_moved(value, old, new) for value in node)
    if isinstance(node, str) and (os.path.normpath(node) + os.sep).startswith(old + os.sep):
        return os.path.normpath(os.path.join(new, os.path.relpath(node, old)))
    return node
