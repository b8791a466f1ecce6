"""Where a config expects its data: checked before a model is built, moved by one switch."""

import os
from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from ..datasets.shapes import CLASSES
from ..utils.cli import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')

_SECTIONS = {
    'CocoDataset': 'README.md#coco',
    'ADE20KDataset': 'README.md#ade20k',
    'ImageNet': 'README.md#imagenet',
}


def _unwrapped(dataset: ConfigDict) -> Iterator[ConfigDict]:
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets', [])
    if not inner:
        yield dataset
    for child in inner:
        yield from _unwrapped(child)


def iter_datasets(cfg: Config, loaders: Sequence[str] = LOADERS) -> Iterator[ConfigDict]:
    """Every dataset of ``loaders``, wrappers such as ``RepeatDataset`` taken off."""
    for loader in loaders:
        if cfg.get(loader) is not None:
            yield from _unwrapped(cfg[loader]['dataset'])


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


def _section(dataset: ConfigDict) -> str:
    kind = dataset.get('type', '')
    kind = kind if isinstance(kind, str) else kind.__name__
    classes = tuple((dataset.get('metainfo') or {}).get('classes', ()))
    if set(CLASSES) <= set(classes):
        return 'tools/dataset_converters/make_shapes.py makes it (README.md#shapes)'
    return f'{_SECTIONS.get(kind.rpartition(".")[2], "README.md#data")} says how to get it'


def check_data(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that the files and folders of ``loaders`` and of their evaluators exist.

    Args:
        cfg (Config): The whole config.
        loaders (Sequence[str]): Those of ``LOADERS`` that the run reads.

    Raises:
        UserError: Names the first path that is missing and how to get it.
    """
    section = 'README.md#data says how to get it'
    for dataset in iter_datasets(cfg, loaders):
        section = _section(dataset)
        if (dataset.get('backend_args') or {}).get('backend', 'local') != 'local':
            continue
        for path in _dataset_paths(dataset):
            _require(path, section)
    for name in EVALUATORS:
        if name.replace('evaluator', 'dataloader') not in loaders or cfg.get(name) is None:
            continue
        metrics = cfg[name] if isinstance(cfg[name], (list, tuple)) else [cfg[name]]
        for metric in metrics:
            path = metric.get('ann_file') or ''
            if path and _is_local(path):
                _require(path, section)


def _require(path: str, section: str) -> None:
    if not os.path.exists(path):
        raise UserError(
            f'{path} does not exist: {section}, and --data-root PATH reads it from elsewhere.'
        )


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
