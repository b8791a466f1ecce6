"""Writing the shapes dataset: one folder per task, complete or not there at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from .mosaics import TINTS, draw_mosaic
from .patterns import KINDS, draw_patterned
from .polygons import mask_to_polygons
from .scene import CLASSES, Scene, draw_clip, draw_scene

SPLITS = ('train', 'val')
TASKS = ('scenes', 'classification', 'denoising', 'video', 'mosaics')

_VERSION = 1  # raised whenever the same arguments give other files
_CLIP_FIELDS = ('num_train_clips', 'num_val_clips', 'num_frames')
_IRRELEVANT = {
    'scenes': ('sigma', *_CLIP_FIELDS),
    'classification': ('sigma', 'max_objects', *_CLIP_FIELDS),
    'denoising': _CLIP_FIELDS,
    'video': ('num_train', 'num_val'),
    'mosaics': ('sigma', 'max_objects', *_CLIP_FIELDS),
}

_CLASSES = {'classification': KINDS, 'mosaics': TINTS}  # elsewhere the shapes


@dataclass(frozen=True)
class ShapesConfig:
    """What decides every pixel of a shapes dataset.

    Args:
        num_train (int): Images in the training split.
        num_val (int): Images in the validation split.
        num_train_clips (int): Clips in the training split of ``video``.
        num_val_clips (int): Clips in the validation split of ``video``.
        num_frames (int): Frames of a clip.
        size_range (tuple[int, int]): Least and greatest height and width in pixels. The two are
            drawn independently; multiples of 32 are left out.
        max_objects (int): Most objects in a scene; the least is half of it.
        sigma (float): Standard deviation of the noise added for ``denoising`` and ``video``, in
            grey levels of 255.
        seed (int): Seed of the whole dataset.

    Raises:
        ValueError: If a value is out of range.
    """

    num_train: int = 1200
    num_val: int = 200
    num_train_clips: int = 32
    num_val_clips: int = 8
    num_frames: int = 8
    size_range: tuple[int, int] = (112, 160)
    max_objects: int = 6
    sigma: float = 25.0
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.size_range
        if low < 64 or not self.sides():
            raise ValueError(
                f'size_range={(low, high)} holds no usable size: give the smallest (at least 64) '
                'and the largest, not both the same multiple of 32.'
            )
        for name in ('num_train', 'num_val', 'max_objects', *_CLIP_FIELDS):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}={getattr(self, name)} must be at least 1.')
        for name in ('sigma', 'seed'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name}={getattr(self, name)} must not be negative.')

    def sides(self) -> list[int]:
        """Every height and width an image may have."""
        low, high = self.size_range
        return [side for side in range(low, high + 1) if side % 32]

    def count(self, task: str, split: str) -> int:
        """Number of images, or clips, of ``task`` in ``split``."""
        return getattr(self, f'num_{split}_clips' if task == 'video' else f'num_{split}')

    def rng(self, task: str, split: str, index: int) -> np.random.Generator:
        """Source of randomness of one image, whatever was drawn before it."""
        return np.random.default_rng([self.seed, TASKS.index(task), SPLITS.index(split), index])

    def arguments(self, task: str) -> dict:
        """The fields that the files of ``task`` depend on."""
        fields = {key: value for key, value in asdict(self).items() if key not in _IRRELEVANT[task]}
        classes = list(_CLASSES.get(task, CLASSES))
        return {'task': task, 'version': _VERSION, 'classes': classes, **fields}

    def digest(self, task: str) -> str:
        """Fingerprint of everything that the files of ``task`` depend on."""
        text = json.dumps(self.arguments(task), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def add_noise(rng: np.random.Generator, image: np.ndarray, sigma: float) -> np.ndarray:
    """Add white Gaussian noise of ``sigma`` grey levels to a uint8 image."""
    noisy = image + np.float32(sigma) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    path.write_bytes(data)  # OpenCV's own writer does not notice a full disk


def _annotations(scene: Scene) -> list[dict]:
    annotations = []
    for label, mask in zip(scene.labels, scene.masks):
        ys, xs = np.nonzero(mask)
        left, top = int(xs.min()), int(ys.min())
        annotations.append(
            {
                'category_id': label + 1,
                'bbox': [left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top],
                'area': len(xs),
                'iscrowd': 0,
                'segmentation': [polygon.ravel().tolist() for polygon in mask_to_polygons(mask)],
            }
        )
    return annotations


def _write_scenes(
    folder: Path, split: str, index: int, rng: np.random.Generator, config: ShapesConfig
) -> dict:
    scene = draw_scene(rng, _draw_size(rng, config), config.max_objects)
    name = f'{index:06d}'
    _save(folder / split / f'{name}.jpg', scene.image)
    _save(folder / 'labels' / split / f'{name}.png', scene.label_map())
    height, width = scene.image.shape[:2]
    image = {'id': index + 1, 'file_name': f'{name}.jpg', 'height': height, 'width': width}
    return {'image': image, 'annotations': _annotations(scene)}


def _write_classification(
    folder: Path, split: str, index: int, rng: np.random.Generator, config: ShapesConfig
) -> None:
    kind = KINDS[index % len(KINDS)]
    image = draw_patterned(rng, _draw_size(rng, config), kind)
    _save(folder / split / kind / f'{index:06d}.jpg', image)


def _write_denoising(
    folder: Path, split: str, index: int, rng: np.random.Generator, config: ShapesConfig
) -> None:
    clean = draw_scene(rng, _draw_size(rng, config), config.max_objects, noise=0).image
    _save(folder / split / 'clean' / f'{index:06d}.png', clean)
    _save(folder / split / 'noisy' / f'{index:06d}.png', add_noise(rng, clean, config.sigma))


def _write_video(
    folder: Path, split: str, index: int, rng: np.random.Generator, config: ShapesConfig
) -> None:
    clip = draw_clip(rng, _draw_size(rng, config), config.num_frames, config.max_objects)
    for time, clean in enumerate(clip):
        name = f'{index:04d}/{time:05d}.png'
        _save(folder / split / 'clean' / name, clean)
        _save(folder / split / 'noisy' / name, add_noise(rng, clean, config.sigma))


def _write_mosaics(
    folder: Path, split: str, index: int, rng: np.random.Generator, config: ShapesConfig
) -> None:
    image, labels = draw_mosaic(rng, _draw_size(rng, config))
    _save(folder / split / f'{index:06d}.jpg', image)
    _save(folder / 'labels' / split / f'{index:06d}.png', labels)


_WRITERS = {
    'scenes': _write_scenes,
    'classification': _write_classification,
    'denoising': _write_denoising,
    'video': _write_video,
    'mosaics': _write_mosaics,
}


def _draw_size(rng: np.random.Generator, config: ShapesConfig) -> tuple[int, int]:
    height, width = rng.choice(config.sides(), 2)
    return int(height), int(width)


def _write_item(folder: Path, task: str, config: ShapesConfig, item: tuple[str, int]):
    split, index = item
    return _WRITERS[task](folder, split, index, config.rng(task, split, index), config)


def _write_coco(path: Path, records: Iterable[dict]) -> None:
    images, annotations = [], []
    for record in records:
        images.append(record['image'])
        for annotation in record['annotations']:
            ids = {'id': len(annotations) + 1, 'image_id': record['image']['id']}
            annotations.append({**ids, **annotation})
    coco = {
        'info': {'description': 'shapes', 'version': str(_VERSION)},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco))


def _mapped(function: Callable, items: Sequence, workers: int) -> Iterator:
    if workers <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
        yield from pool.map(function, items, chunksize=8)


def is_complete(folder: Path, config: ShapesConfig, task: str) -> bool:
    """Whether ``folder`` holds the whole of ``task`` as ``config`` describes it."""
    manifest = folder / 'manifest.json'
    return manifest.is_file() and json.loads(manifest.read_text())['digest'] == config.digest(task)


def make_shapes(
    out: str | Path,
    config: ShapesConfig = ShapesConfig(),
    tasks: Sequence[str] = TASKS,
    workers: int = 1,
    force: bool = False,
    track: Callable[..., Iterable] | None = None,
) -> dict[str, bool]:
    """Write the shapes dataset, one folder per task; what is there already is kept.

    ========================  ==================================================================
    folder                    contents (``SPLIT`` is ``train`` or ``val``)
    ========================  ==================================================================
    ``scenes``                ``SPLIT/*.jpg``, boxes and polygons in
                              ``annotations/instances_SPLIT.json`` (COCO), label maps
                              ``labels/SPLIT/*.png`` (0 is background)
    ``classification``        ``SPLIT/KIND/*.jpg``, one pattern per image
    ``denoising``             ``SPLIT/clean/*.png``, ``SPLIT/noisy/*.png``
    ``video``                 ``SPLIT/clean/CLIP/FRAME.png``, ``SPLIT/noisy/CLIP/FRAME.png``
    ``mosaics``               ``SPLIT/*.jpg``, nine tinted pieces under coarse grain; label
                              maps ``labels/SPLIT/*.png``
    ========================  ==================================================================

    The files depend on ``config`` only. A folder appears under its name when it is complete.

    Args:
        out (str | Path): Folder that receives one folder per task.
        config (ShapesConfig): What to draw.
        tasks (Sequence[str]): Any of ``TASKS``.
        workers (int): Processes; 1 draws in this one.
        force (bool): Replace a folder made from other arguments.
        track (Callable, optional): ``track(iterable, description=…, total=…)`` shows progress, as
            ``rich.progress.track`` does.

    Returns:
        dict[str, bool]: For every task whether it was written now (False: it was there).

    Raises:
        ValueError: If a task is unknown.
        FileExistsError: If a folder holds something else and ``force`` is not set.
    """
    out = Path(out)
    written = {}
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f'task={task!r} is unknown: choose from {", ".join(TASKS)}.')
        folder = out / task
        written[task] = not is_complete(folder, config, task)
        if not written[task]:
            continue
        if folder.exists() and not force:
            raise FileExistsError(
                f'{folder} was not made from these arguments: choose another folder, or remove '
                'it (make_shapes.py --force replaces it).'
            )
        _write_task(folder, config, task, workers, track)
    return written


def _write_task(folder, config, task, workers, track) -> None:
    partial_folder = folder.with_name(f'.{task}.partial')
    shutil.rmtree(partial_folder, ignore_errors=True)
    items = [(split, index) for split in SPLITS for index in range(config.count(task, split))]
    records = _mapped(partial(_write_item, partial_folder, task, config), items, workers)
    if track is not None:
        records = track(records, description=f'shapes: {task}', total=len(items))
    records = list(records)
    if task == 'scenes':
        for split in SPLITS:
            chosen = [record for record, item in zip(records, items) if item[0] == split]
            _write_coco(partial_folder / 'annotations' / f'instances_{split}.json', chosen)
    if task == 'classification':  # datasets expect every class, however few images there are
        for split in SPLITS:
            for kind in KINDS:
                (partial_folder / split / kind).mkdir(parents=True, exist_ok=True)
    manifest = {'digest': config.digest(task), 'arguments': config.arguments(task)}
    (partial_folder / 'manifest.json').write_text(json.dumps(manifest, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial_folder, folder)
