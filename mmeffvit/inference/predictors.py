"""Predictors: trained models of each framework, applied image by image by its inferencer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..checkpoints import load_weights, read_weights
from ..checkpoints.index import resolve
from ..utils.atomic import write_json
from ..utils.config import activate_scope, iter_datasets
from ..utils.device import check_device
from ..utils.images import write_image

#: A data sample of the framework: ``DetDataSample``, ``SegDataSample`` or ``DataSample``.
Sample = Any


class Predictor:
    """A trained model that predicts image by image, draws and saves what it predicts.

    Subclasses, one per framework, take the config of a model that is tested on images, the
    ``classes`` and ``palette`` of its dataset, and the device to run on.

    Attributes:
        model (nn.Module): The whole model.
    """

    model: Any

    def __call__(self, image: np.ndarray) -> tuple[Sample, np.ndarray]:
        """Predict for an RGB image ``(H, W, 3)`` uint8; returns the sample and the drawing, RGB."""
        raise NotImplementedError

    def keep(self, sample: Sample, source: str, frame: int | None, out: Path) -> list[Path]:
        """Save or collect the prediction of an image or video frame; returns the files written."""
        raise NotImplementedError

    def finish(self, out: Path) -> list[Path]:
        """Write the collected predictions; returns the files written."""
        return []


#: Identifiers of COCO's 80 categories, in the order of the classes.
COCO_IDS = tuple(
    number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
)


class _Lines:
    """Predictions as JSON lines in ``predictions.jsonl``, written as they come.

    An abort loses none that was made; at the end they become ``predictions.json``.
    """

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    def add(self, out: Path, record: dict) -> None:
        """Append a line."""
        if self._file is None:
            out.mkdir(parents=True, exist_ok=True)
            path = out / 'predictions.jsonl'
            path.unlink(missing_ok=True)  # of an aborted run; a link is not followed
            self._file = path.open('x+', encoding='utf-8')
        self._file.write(json.dumps(record) + '\n')
        self._file.flush()

    def read(self) -> list[dict]:
        """What was added."""
        if self._file is None:
            return []
        self._file.seek(0)
        return [json.loads(line) for line in self._file]

    def merge(self, out: Path, content: dict | list) -> Path:
        """Write ``predictions.json`` in place of the lines."""
        path = out / 'predictions.json'
        write_json(path, content)
        if self._file is not None:
            self._file.close()
            (out / 'predictions.jsonl').unlink()
        return path


class Detector(Predictor):
    """Detector: boxes and masks, saved as one COCO file of ``images`` and ``annotations``.

    The annotations are COCO results: every detection with its score, drawn or not. Images are
    numbered from 1 unless :meth:`take_ids` gives their ids; categories too, except that those of
    models of COCO's classes are COCO's.

    Args:
        config (Config): Of a detector.
        dataset_meta (dict): ``classes`` and ``palette``.
        device (str): Where to run.
        score_threshold (float): Detections below it are not drawn.
    """

    def __init__(
        self, config: Config, dataset_meta: dict, device: str, score_threshold: float
    ) -> None:
        from mmdet.apis import DetInferencer
        from mmdet.datasets import CocoDataset

        self._inferencer = DetInferencer(config, device=device, show_progress=False)
        self._threshold = score_threshold
        self.model = self._inferencer.model
        self.model.dataset_meta.update(dataset_meta)
        self._kept = _Lines()
        self.image_ids: dict[str, int] = {}
        classes = tuple(self.model.dataset_meta['classes'])
        is_coco = classes == tuple(CocoDataset.METAINFO['classes'])
        self.category_ids = COCO_IDS if is_coco else tuple(range(1, len(classes) + 1))

    def take_ids(self, path: str | Path, sources: Sequence[str]) -> None:
        """Save predictions under the image and category ids of a COCO file.

        Args:
            path (str | Path): The file.
            sources (Sequence[str]): Images that will be predicted, as they are saved.

        Raises:
            ValueError: If the file cannot be read, or lacks a class or an image.
        """
        try:
            content = json.loads(Path(path).read_text())
            images = {image['file_name']: image['id'] for image in content['images']}
            categories = {category['name']: category['id'] for category in content['categories']}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path} is no COCO file: {type(error).__name__}: {error}.') from None
        for source in sources:
            names = [source, source.rpartition('/')[2]]
            found = next((images[name] for name in names if name in images), None)
            if found is None:
                raise ValueError(f'{path} lists no image {source}.')
            self.image_ids[source] = found
        classes = self.model.dataset_meta['classes']
        lacking = [name for name in classes if name not in categories]
        if lacking:
            raise ValueError(f'{path} lists no category {lacking[0]!r} of the model.')
        self.category_ids = tuple(categories[name] for name in classes)

    def __call__(self, image: np.ndarray) -> tuple[Sample, np.ndarray]:
        """See :class:`Predictor`."""
        _, data = next(self._inferencer.preprocess([_bgr(image)]))
        samples = self._inferencer.forward(data)
        drawn = self._inferencer.visualize(
            [image], samples, return_vis=True, pred_score_thr=self._threshold
        )
        assert drawn is not None
        return samples[0], drawn[0]

    def keep(self, sample: Sample, source: str, frame: int | None, out: Path) -> list[Path]:
        """See :class:`Predictor`."""
        height, width = sample.ori_shape[:2]
        entry = dict(file_name=source, height=height, width=width)
        found = self._inferencer.pred2dict(sample)
        annotations = []
        for index, (left, top, right, bottom) in enumerate(found['bboxes']):
            annotation = dict(
                category_id=self.category_ids[found['labels'][index]],
                bbox=[left, top, right - left, bottom - top],
                area=(right - left) * (bottom - top),
                iscrowd=0,
                score=found['scores'][index],
            )
            if 'masks' in found:
                annotation['segmentation'] = found['masks'][index]
            annotations.append(annotation)
        place = entry if frame is None else {**entry, 'frame_id': frame}
        self._kept.add(out, {**place, 'annotations': annotations})
        return []

    def finish(self, out: Path) -> list[Path]:
        """See :class:`Predictor`."""
        images: list[dict] = []
        annotations: list[dict] = []
        for image in self._kept.read():
            found = image.pop('annotations')
            image_id = self.image_ids.get(image['file_name'], len(images) + 1)
            images.append(dict(id=image_id, **image))
            for annotation in found:
                number = len(annotations) + 1
                annotations.append(dict(id=number, image_id=image_id, **annotation))
        names = zip(self.category_ids, self.model.dataset_meta['classes'])
        categories = [dict(id=number, name=name) for number, name in names]
        content = dict(images=images, categories=categories, annotations=annotations)
        return [self._kept.merge(out, content)]


class Segmentor(Predictor):
    """Segmentor: a class per pixel, saved as an 8-bit PNG of class indices per image."""

    def __init__(self, config: Config, dataset_meta: dict, device: str) -> None:
        from mmseg.apis import MMSegInferencer

        self._inferencer = MMSegInferencer(config, device=device, show_progress=False)
        self.model = self._inferencer.model
        self.model.dataset_meta = {key: dataset_meta.get(key) for key in ('classes', 'palette')}

    def __call__(self, image: np.ndarray) -> tuple[Sample, np.ndarray]:
        """See :class:`Predictor`."""
        samples = self._inferencer.forward(next(self._inferencer.preprocess([_bgr(image)])))
        return samples[0], self._inferencer.visualize([image], samples, return_vis=True)[0]

    def keep(self, sample: Sample, source: str, frame: int | None, out: Path) -> list[Path]:
        """See :class:`Predictor`."""
        path = out / (f'{source}.png' if frame is None else f'{source}/{frame:06d}.png')
        write_image(path, sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8))
        return [path]


class Classifier(Predictor):
    """Classifier: class scores, saved as one JSON list."""

    def __init__(self, config: Config, dataset_meta: dict, device: str) -> None:
        from mmpretrain.apis import ImageClassificationInferencer
        from mmpretrain.visualization import UniversalVisualizer

        self._inferencer = ImageClassificationInferencer(
            config, pretrained=False, device=device, classes=dataset_meta.get('classes')
        )
        self._visualizer = UniversalVisualizer()
        self.model = self._inferencer.model
        self._kept = _Lines()

    def __call__(self, image: np.ndarray) -> tuple[Sample, np.ndarray]:
        """See :class:`Predictor`."""
        samples = self._inferencer.forward(next(self._inferencer.preprocess([_bgr(image)])))
        drawn = self._visualizer.visualize_cls(
            image, samples[0], classes=self._inferencer.classes, draw_gt=False
        )
        return samples[0], drawn

    def keep(self, sample: Sample, source: str, frame: int | None, out: Path) -> list[Path]:
        """See :class:`Predictor`."""
        (found,) = self._inferencer.postprocess([sample], [])
        found['pred_scores'] = found['pred_scores'].tolist()
        place = dict(file_name=source) if frame is None else dict(file_name=source, frame_id=frame)
        self._kept.add(out, {**place, **found})
        return []

    def finish(self, out: Path) -> list[Path]:
        """See :class:`Predictor`."""
        return [self._kept.merge(out, self._kept.read())]


def build_predictor(
    config: Config, checkpoint: str | Path, device: str = 'cpu', score_threshold: float = 0.3
) -> Predictor:
    """Build the model of a detector's, segmentor's or classifier's config with its weights.

    Args:
        config (Config): Its ``default_scope`` is mmdet, mmseg or mmpretrain.
        checkpoint (str | Path): ``.pth`` or ``.safetensors``, or ``'published'`` for the published
            weights of the config; every key must fit. Only tensors and training state are read.
        device (str): Where to run.
        score_threshold (float): Detections below it are not drawn.

    Raises:
        ValueError: If the scope is unknown, the checkpoint is missing, damaged or would run code,
            or the weights are not this model's.
    """
    scope = activate_scope(config)
    if scope == 'mmeffvit':
        raise ValueError('This config is of a denoiser: use mmeffvit.denoising.Denoiser.')
    init_default_scope(scope)
    _name_datasets(config)
    weights = read_weights(resolve(checkpoint, config))
    check_device(device)
    if 'data_preprocessor' in config:
        config.model.setdefault('data_preprocessor', config.data_preprocessor)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of missing weights; they are loaded here, strictly
        dataset_meta = _dataset_meta(config, scope, weights.meta)
        if scope == 'mmdet':
            predictor = Detector(config, dataset_meta, device, score_threshold)
        elif scope == 'mmseg':
            predictor = Segmentor(config, dataset_meta, device)
        else:
            predictor = Classifier(config, dataset_meta, device)
    load_weights(predictor.model, weights)
    return predictor


def _name_datasets(config: Config) -> None:
    """Name dataset classes, as pure Python configs have them, for mmpretrain's look-up by name."""
    for dataset in iter_datasets(config):
        if isinstance(dataset['type'], type):
            dataset['type'] = f'{dataset["type"].__module__}.{dataset["type"].__name__}'


def _dataset_meta(config: Config, scope: str, checkpoint_meta: dict) -> dict:
    """Classes and palette: of the checkpoint, else of the config, else of the dataset class."""
    dataset = next(iter_datasets(config, ('test_dataloader',)), None)
    if dataset is None:
        raise ValueError(
            f'{config.filename or "The config"} has no test_dataloader: set one, whose pipeline '
            'prepares the images.'
        )
    dataset_class = dataset['type']
    if isinstance(dataset_class, str):
        dataset_class = import_module(f'{scope}.registry').DATASETS.get(dataset_class)
    found = {
        **getattr(dataset_class, 'METAINFO', {}),
        **dataset.get('metainfo', {}),
        **checkpoint_meta.get('dataset_meta', {}),
    }
    return {key.lower(): value for key, value in found.items()}


def _bgr(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1])
