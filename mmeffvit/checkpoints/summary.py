"""What is in a checkpoint file: family, part, architecture, classes, dtypes, size, hash."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .convert import convert, recognise
from .download import sha256_of
from .index import OURS
from .read import Weights, read_weights


def summarise(path: str | Path) -> dict[str, str]:
    """Say what is in a checkpoint.

    Args:
        path (str | Path): A ``.pth`` or ``.safetensors`` file, of public code or ours.

    Returns:
        dict[str, str]: Name of each fact to its text, for people.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    path = Path(path)
    weights = read_weights(path)
    families, config = _families_of(weights)
    dtypes = Counter(str(value.dtype).removeprefix('torch.') for value in weights.values())
    values = sum(value.numel() for value in weights.values())
    classes = _classes_of(weights)
    facts = {
        'family of the file': ' or '.join(families),
        'part of the file': _part_of(weights),
        'arch': f'{config["type"]} {config.get("arch", "")}' if config else '',
        'classes': str(classes) if classes else '',
        'tensors': f'{len(weights)}, {values / 1e6:.2f} M values',
        'dtype': ', '.join(f'{kind} ({count})' for kind, count in dtypes.most_common()),
        'size': f'{path.stat().st_size / 2**20:.1f} MiB',
        'SHA-256': sha256_of(path),
    }
    return {name: text for name, text in facts.items() if text}


def _families_of(weights: Weights) -> tuple[list[str], dict]:
    """Key maps that convert the file exactly, and the config of the first; ours if it was."""
    if 'family' in weights.meta and 'config' in weights.meta:
        return [f'{OURS} (converted from {weights.meta["family"]})'], weights.meta['config']
    exact: dict[str, dict] = {}
    for family in recognise(weights, weights):
        try:
            result = convert(weights, family, 'model')
        except ValueError:
            continue
        if result.is_exact and not result.untrained and '_to_' not in family:
            exact[family] = result.config
    return list(exact), next(iter(exact.values()), {})


def _part_of(weights: Weights) -> str:
    starts = {key.partition('.')[0] for key in weights}
    if 'decode_head' in starts:
        return 'segmentor'
    if starts & {'bbox_head', 'rpn_head', 'roi_head'}:
        return 'detector'
    if 'head' in starts:
        return 'classifier'
    return 'backbone'


def _classes_of(weights: Weights) -> int:
    """The number of classes: as noted, else outputs of the classifier."""
    noted = weights.meta.get('dataset_meta', weights.meta)
    names = noted.get('classes') or noted.get('CLASSES') if isinstance(noted, dict) else None
    if isinstance(names, (list, tuple)):
        return len(names)
    last = ('head.weight', 'head.fc.weight', 'head.head.weight', 'decode_head.conv_seg.weight')
    found = next((weights[name] for name in last if name in weights), None)
    return 0 if found is None else len(found)
