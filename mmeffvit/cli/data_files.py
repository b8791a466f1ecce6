"""Checks of what annotation files and label images hold, before a model is built."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from PIL import Image

from ..utils.config import iter_datasets
from .errors import UserError, process_rank

#: Label images of a dataset that are opened, evenly spaced.
NUM_LABELS = 16
#: Of every kind of entry, the values that it needs and what they must be.
_REQUIRED: dict[str, dict[str, tuple[type, ...]]] = dict(
    images=dict(id=(int, str), file_name=(str,), height=(int,), width=(int,)),
    categories=dict(id=(int, str), name=(str,)),
    annotations=dict(
        id=(int, str), image_id=(int, str), category_id=(int, str), bbox=(list,), area=(int, float)
    ),
)
_OPTIONAL = dict(annotations=dict(segmentation=(list, dict), iscrowd=(int,)))
_WORDS = {int: 'a whole number', str: 'a text', list: 'a list', float: 'a number', dict: 'RLE'}


def check_data_files(cfg: Config, loaders: Sequence[str]) -> None:
    """Check the annotations of COCO datasets and the label images of segmentation datasets.

    Of several processes the first does it.

    Args:
        cfg (Config): The whole config.
        loaders (Sequence[str]): The dataloaders that the run reads.

    Raises:
        UserError: Names the file and the first entry that is wrong.
    """
    if process_rank() > 0:
        return
    checked: set[str] = set()
    for loader in loaders:
        for dataset in iter_datasets(cfg, [loader]):
            kind = _dataset_class(cfg, dataset)
            names = {base.__name__ for base in kind.__mro__} if kind is not None else set()
            root, file = dataset.get('data_root') or '', dataset.get('ann_file') or ''
            path = os.path.join(root, file)
            if 'BaseSegDataset' in names and kind is not None:
                _check_labels(kind, dataset)
            elif 'CocoDataset' in names and os.path.isfile(path) and path not in checked:
                checked.add(path)
                masks = any(step.get('with_mask') for step in dataset.get('pipeline') or ())
                check_coco(path, loader == 'train_dataloader', masks)


def _dataset_class(cfg: Config, dataset: ConfigDict) -> Any:
    scope = cfg.get('default_scope')
    if scope not in ('mmdet', 'mmseg'):
        return None
    kind = dataset.get('type')
    return import_module(f'{scope}.registry').DATASETS.get(kind) if isinstance(kind, str) else kind


def check_coco(path: str | Path, annotated: bool = True, masks: bool = False) -> None:
    """Check a file of COCO annotations.

    Args:
        path (str | Path): The file.
        annotated (bool): Whether it needs annotations.
        masks (bool): Whether every annotation needs a mask.

    Raises:
        UserError: Names the first entry that is wrong.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise UserError(f'{path} is no JSON: {error}.') from None
    if not isinstance(content, dict):
        raise UserError(f'{path} must be an object with images, annotations and categories.')
    for part, required in _REQUIRED.items():
        if part == 'annotations' and part not in content and not annotated:
            continue
        entries = content.get(part)
        if not isinstance(entries, list) or (annotated and not entries):
            found = 'lacks' if part not in content else 'has no'
            raise UserError(f'{path} {found} {part}: it must be a COCO file.')
        for index, entry in enumerate(entries):
            lacking = [k for k in required if not isinstance(entry, dict) or k not in entry]
            if lacking:
                raise UserError(f'{path}: {part}[{index}] lacks {", ".join(lacking)}.')
            for key, kinds in {**required, **_OPTIONAL.get(part, {})}.items():
                value: Any = entry.get(key)
                wrong = not isinstance(value, kinds) or isinstance(value, bool)
                if key in ('height', 'width') and not wrong:
                    wrong = not 0 < value < 2**31
                if key in entry and wrong:
                    words = ' or '.join(_WORDS[kind] for kind in kinds)
                    raise UserError(f'{path}: {part}[{index}].{key}={value!r} must be {words}.')
        number, times = next(iter(Counter(entry['id'] for entry in entries).most_common(1)), (0, 0))
        if times > 1:
            raise UserError(f'{path}: id {number} is given to {times} {part}; ids must differ.')
    images = {image['id'] for image in content['images']}
    categories = {category['id'] for category in content['categories']}
    for index, entry in enumerate(content.get('annotations', ())):
        place = f'{path}: annotations[{index}] (id {entry["id"]})'
        if entry['image_id'] not in images:
            raise UserError(f'{place} is of image {entry["image_id"]}, which is not listed.')
        if entry['category_id'] not in categories:
            raise UserError(f'{place} is of category {entry["category_id"]}, which is not listed.')
        box = entry['bbox']
        if not (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(x, Real) and isfinite(x) for x in box)
        ):
            raise UserError(f'{place} has bbox {box}; it must be [x, y, width, height].')
        if masks and not _is_mask(entry.get('segmentation')):
            raise UserError(
                f'{place} has no segmentation of polygons [[x, y, x, y, x, y, ...]] or RLE, which '
                'this model learns: choose one without a mask head, or annotate masks.'
            )


def _is_mask(value: Any) -> bool:
    if isinstance(value, dict):
        return {'counts', 'size'} <= value.keys()
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(polygon, list)
            and len(polygon) >= 6
            and len(polygon) % 2 == 0
            and all(isinstance(x, Real) and isfinite(x) for x in polygon)
            for polygon in value
        )
    )


def _check_labels(kind: Any, dataset: ConfigDict) -> None:
    """Read a few images and their label images, and compare their sizes."""
    arguments = {key: value for key, value in dataset.items() if key != 'type'}
    entries = kind(**{**arguments, 'lazy_init': True, 'pipeline': []}).load_data_list()
    for entry in entries[:: max(1, len(entries) // NUM_LABELS)][:NUM_LABELS]:
        if not entry.get('seg_map_path') or '://' in entry['img_path']:
            continue
        sizes = [_size(entry[key]) for key in ('img_path', 'seg_map_path')]
        if sizes[0] != sizes[1]:
            shown = ' and '.join('x'.join(map(str, size)) for size in sizes)
            raise UserError(
                f'{entry["seg_map_path"]} has another size than {entry["img_path"]}: {shown}.'
            )


def _size(path: str) -> tuple[int, int]:
    if not os.path.isfile(path):
        raise UserError(f'{path} does not exist; each image needs a label image.')
    try:
        with Image.open(path) as image:
            image.load()  # decoders of training fill what is missing with zeros
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except Exception as error:  # of Pillow's decoders, many kinds
        raise UserError(f'{path} cannot be read: {error}.') from None
    return (height, width) if turned else (width, height)
