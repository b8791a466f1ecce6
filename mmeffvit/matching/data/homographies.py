"""Pairs of images with an exact homography, generated or cut from any pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from ...registry import DATASETS
from ...utils.images import list_images, read_image

#: Cells of the noise grids of a canvas and their weights; the last grid has half the pixels.
NOISE = ((8, 0.35), (16, 0.3), (32, 0.25), (64, 0.2), (None, 0.12))
#: Largest change of image 1 by perspective and shift, over its sides; degrees; logarithm of zoom.
JITTER, SHIFT, ROTATION, ZOOM = 0.12, 0.12, 25.0, np.log(1.25)


@DATASETS.register_module()
class HomographyPairs(BaseDataset):
    """Pairs of grey images that a random homography maps to each other.

    Both images of a pair are sampled from one canvas, so nothing of them is outside of it; then
    gamma, gain, bias, blur and noise differ. Canvases are drawn (noise, circles, polygons, lines
    and, repetitive on purpose, checkerboards and stripes), or cut from pictures. The same seed and
    index give the same pair.

    Args:
        num_pairs (int): Length of the dataset.
        size (tuple[int, int]): ``(height, width)`` of image 0.
        size1 (tuple[int, int], optional): That of image 1; of image 0 by default.
        seed (int): Seed of all pairs.
        data_root (str): With ``data_prefix=dict(img=...)``, a folder of pictures to cut from;
            canvases are drawn without it.
        **kwargs: See mmengine's ``BaseDataset``.

    Raises:
        ValueError: If the folder holds no image.
    """

    def __init__(
        self,
        num_pairs: int,
        size: tuple[int, int] = (128, 160),
        size1: tuple[int, int] | None = None,
        seed: int = 0,
        data_root: str = '',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        self.num_pairs = num_pairs
        size1 = size1 or size
        self.size, self.size1 = (size[0], size[1]), (size1[0], size1[1])
        self.seed = seed
        super().__init__(data_root=data_root, data_prefix=data_prefix or dict(), **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the numbers of the pairs, with the picture that each is cut from."""
        if not self.data_prefix.get('img'):
            return [dict(pair=index) for index in range(self.num_pairs)]
        folder = Path(self.data_prefix['img'])
        pictures = list_images(folder)
        if not pictures:
            raise ValueError(f'{folder} holds no image; set data_root and data_prefix.')
        return [
            dict(pair=index, img_path=str(pictures[index % len(pictures)]))
            for index in range(self.num_pairs)
        ]

    def get_data_info(self, idx: int) -> dict:
        """The images and what maps one to the other.

        Returns:
            dict: ``image0`` and ``image1``, float32 ``(H, W)`` in [0, 1], and ``homography``
            ``(3, 3)`` float32.
        """
        info = super().get_data_info(idx)
        random = np.random.default_rng((self.seed, info['pair']))
        side = 2 * max(*self.size, *self.size1)
        if 'img_path' in info:
            canvas = cut_canvas(read_image(info['img_path']), side, random)
        else:
            canvas = draw_canvas(side, random)
        corners = random_corners(side, self.size1, random)
        return {**info, **cut_pair(canvas, self.size, self.size1, corners, random)}


def draw_canvas(side: int, random: np.random.Generator) -> np.ndarray:
    """Draw a grey canvas of noise, shapes and repetitive patterns.

    Args:
        side (int): Height and width.
        random (np.random.Generator): Source of all that is drawn.

    Returns:
        np.ndarray: ``(side, side)`` float32 in [0, 1].
    """
    canvas = np.zeros((side, side), np.float32)
    for cells, weight in NOISE:
        noise = random.standard_normal((cells or side // 2,) * 2, dtype=np.float32)
        canvas += weight * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    canvas = 0.5 + 0.12 * (canvas - canvas.mean()) / canvas.std()
    for _ in range(random.integers(25, 46)):
        _draw_shape(canvas, random)
    for _ in range(random.integers(2, 5)):
        _draw_pattern(canvas, random)
    canvas += 0.04 * random.standard_normal(canvas.shape, dtype=np.float32)
    return canvas.clip(0, 1)


def cut_canvas(picture: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Cut a grey square of ``side`` pixels from an RGB picture ``(H, W, 3)``, scaled to fit."""
    peak = np.iinfo(picture.dtype).max
    grey = cv2.cvtColor((picture / peak).astype(np.float32), cv2.COLOR_RGB2GRAY)
    scale = side / min(grey.shape)
    sizes = [max(side, round(length * scale)) for length in grey.shape[::-1]]
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grey = cv2.resize(grey, sizes, interpolation=shrinks)
    top, left = (random.integers(length - side + 1) for length in grey.shape)
    return grey[top : top + side, left : left + side].clip(0, 1)


def random_corners(side: int, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Place the corners of an image on a canvas.

    Args:
        side (int): Side of the canvas.
        size (tuple[int, int]): ``(height, width)`` of the image.
        random (np.random.Generator): Source.

    Returns:
        np.ndarray: ``(4, 2)`` float64 ``(x, y)``: top left, top right, bottom right, bottom left.
    """
    extent = np.array(size[::-1], np.float64)
    corners = frame_corners(size) - (extent - 1) / 2
    corners += random.uniform(-JITTER, JITTER, corners.shape) * extent
    angle = np.radians(random.uniform(-ROTATION, ROTATION))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    zoom = np.exp(random.uniform(-ZOOM, ZOOM))
    shift = random.uniform(-SHIFT, SHIFT, 2) * extent
    return zoom * corners @ turn.T + shift + (side - 1) / 2


def cut_pair(
    canvas: np.ndarray,
    size0: tuple[int, int],
    size1: tuple[int, int],
    corners: np.ndarray,
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Cut image 0 from the middle of a canvas and image 1 by its corners.

    Args:
        canvas (np.ndarray): ``(S, S)`` in [0, 1].
        size0 (tuple[int, int]): ``(height, width)`` of image 0.
        size1 (tuple[int, int]): ``(height, width)`` of image 1.
        corners (np.ndarray): ``(4, 2)``, corners of image 1 on the canvas.
        random (np.random.Generator): Source of what differs in brightness.

    Returns:
        dict: ``image0``, ``image1`` and ``homography``.
    """
    top, left = (length // 2 - part // 2 for length, part in zip(canvas.shape, size0))
    image0 = canvas[top : top + size0[0], left : left + size0[1]]
    to_image1 = cv2.getPerspectiveTransform(
        corners.astype(np.float32), frame_corners(size1).astype(np.float32)
    )
    image1 = cv2.warpPerspective(
        canvas, to_image1, size1[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    homography = to_image1 @ np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])
    return dict(
        image0=change_light(image0, random),
        image1=change_light(image1, random),
        homography=(homography / homography[2, 2]).astype(np.float32),
    )


def change_light(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change gamma, gain and bias of a grey image in [0, 1], blur some, and add noise."""
    image = image ** np.float32(np.exp(random.uniform(-0.35, 0.35)))
    image = image * np.float32(random.uniform(0.75, 1.25)) + np.float32(random.uniform(-0.12, 0.12))
    if random.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.0))
    noise = random.standard_normal(image.shape, dtype=np.float32)
    return (image + np.float32(random.uniform(0, 0.03)) * noise).clip(0, 1)


def frame_corners(size: Sequence[int]) -> np.ndarray:
    """Centres of the corner pixels ``(4, 2)`` of an image ``(height, width)``."""
    H, W = size
    return np.array([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]], np.float64)


def _draw_shape(canvas: np.ndarray, random: np.random.Generator) -> None:
    side = len(canvas)
    grey = float(random.random())
    x, y = random.uniform(0, side, 2)
    kind = random.integers(3)
    if kind == 0:
        radius = int(random.uniform(0.01, 0.07) * side) + 1
        cv2.circle(canvas, (int(x), int(y)), radius, grey, -1, cv2.LINE_AA)
    elif kind == 1:
        count = random.integers(3, 7)
        angles = np.sort(random.uniform(0, 2 * np.pi, count))
        radii = random.uniform(0.02, 0.1) * side
        points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], 1)
        cv2.fillConvexPoly(canvas, points.round().astype(np.int32), grey, cv2.LINE_AA)
    else:
        end = random.uniform(0, side, 2)
        width = int(random.integers(1, 5))
        cv2.line(canvas, (int(x), int(y)), (int(end[0]), int(end[1])), grey, width, cv2.LINE_AA)


def _draw_pattern(canvas: np.ndarray, random: np.random.Generator) -> None:
    """A patch of checkerboard or stripes."""
    side = len(canvas)
    height, width = (int(n) for n in random.uniform(0.1, 0.25, 2) * side)
    top, left = random.integers(side - height), random.integers(side - width)
    period = random.integers(4, 12)
    y, x = np.mgrid[:height, :width] // max(1, period // 2)
    cells = (x + y) % 2 if random.random() < 0.5 else x % 2
    dark, light = np.sort(random.random(2)).astype(np.float32)
    canvas[top : top + height, left : left + width] = np.where(cells, light, dark)
