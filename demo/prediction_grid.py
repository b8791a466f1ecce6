"""A picture of what a detector finds."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mmeffvit.utils.images import write_image

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    scale: float = 2.0,
) -> np.ndarray:
    """Draw boxes with class and score over an enlarged image.

    Args:
        image (np.ndarray): BGR ``uint8`` image of shape ``(H, W, 3)``.
        boxes (np.ndarray): ``(N, 4)`` corners ``x1, y1, x2, y2`` in pixels of ``image``.
        labels (np.ndarray): ``(N,)`` indices into ``classes``.
        scores (np.ndarray): ``(N,)``.
        classes (Sequence[str]): Class names.
        palette (Sequence[Sequence[int]]): RGB colour of every class.
        scale (float): Enlargement.
    """
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for index in np.argsort(scores):  # the surest on top
        box, label, score = boxes[index], labels[index], scores[index]
        colour = tuple(int(value) for value in palette[label][::-1])
        left, top, right, bottom = (round(float(value) * scale) for value in box)
        cv2.rectangle(canvas, (left, top), (right, bottom), _WHITE, 4)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2)
        text = f'{classes[label]} {score:.2f}'
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        x = min(max(left, 0), max(canvas.shape[1] - width - 4, 0))
        y = max(top, height + 5)
        cv2.rectangle(canvas, (x, y - height - 5), (x + width + 4, y), colour, -1)
        cv2.putText(
            canvas, text, (x + 2, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _WHITE, 1, cv2.LINE_AA
        )
    return canvas


def tile(images: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """Lay images of different sizes out on a black grid, each in the middle of its cell."""
    height = max(image.shape[0] for image in images) + gap
    width = max(image.shape[1] for image in images) + gap
    rows = -(-len(images) // columns)
    canvas = np.full((rows * height, columns * width, 3), _BLACK, np.uint8)
    for index, image in enumerate(images):
        top = index // columns * height + (height - image.shape[0]) // 2
        left = index % columns * width + (width - image.shape[1]) // 2
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def surest_per_place(boxes: np.ndarray, scores: np.ndarray, iou: float = 0.7) -> list[int]:
    """Indices of the detections that no surer one covers, whatever their class, surest first.

    Args:
        boxes (np.ndarray): ``(N, 4)`` corners ``x1, y1, x2, y2``.
        scores (np.ndarray): ``(N,)``.
        iou (float): Intersection over union from which two boxes are one place.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind='stable').tolist():
        low = np.maximum(boxes[kept, :2], boxes[index, :2])
        high = np.minimum(boxes[kept, 2:], boxes[index, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        if (shared < iou * (areas[kept] + areas[index] - shared)).all():
            kept.append(index)
    return kept


def save_prediction_grid(
    predictions: Sequence[dict],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    out: str | Path,
    score_threshold: float = 0.4,
    columns: int = 6,
) -> None:
    """Draw the surest detection of every place over the images and save them as one picture.

    Args:
        predictions (Sequence[dict]): As ``tools/test.py --out`` keeps them: ``img_path`` and
            ``pred_instances`` with ``bboxes``, ``labels`` and ``scores``.
        classes (Sequence[str]): Class names.
        palette (Sequence[Sequence[int]]): RGB colour of every class.
        out (str | Path): The PNG file.
        score_threshold (float): Detections below it are left out.
        columns (int): Images in a row.
    """
    drawn = []
    for prediction in predictions:
        found = prediction['pred_instances']
        keep = found['scores'] >= score_threshold
        boxes, labels, scores = (
            found[name][keep].numpy() for name in ('bboxes', 'labels', 'scores')
        )
        kept = surest_per_place(boxes, scores)
        boxes, labels, scores = boxes[kept], labels[kept], scores[kept]
        image = cv2.imread(prediction['img_path'])
        drawn.append(draw_detections(image, boxes, labels, scores, classes, palette))
    write_image(out, tile(drawn, columns)[..., ::-1])
