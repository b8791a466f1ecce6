from __future__ import annotations

import cv2
import numpy as np
import torch

from ...registry import TRANSFORMS
from ...utils.images import PEAKS, read_image
from .structures import PairSample

#: What a sample may hold beside the images, as arrays.
TRUTH = ('homography', 'depth0', 'depth1', 'intrinsics0', 'intrinsics1', 'pose')
META = ('scale0', 'scale1', 'size0', 'size1', 'image0_path', 'image1_path', 'scene')


def to_grey(image: np.ndarray) -> np.ndarray:
    """Grey float32 image ``(H, W)`` in [0, 1] of ``(H, W)``, ``(H, W, 3)`` RGB or RGBA.

    Raises:
        ValueError: If the type or shape is none of these.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(f'An image of shape {image.shape} is no (H, W), (H, W, 3) or (H, W, 4).')
    if image.dtype.name in PEAKS:
        image = image.astype(np.float32) / np.float32(PEAKS[image.dtype.name])
    elif np.issubdtype(image.dtype, np.floating):
        image = image.astype(np.float32, copy=False)
    else:
        raise ValueError(f'An image of {image.dtype} is not uint8, uint16 or float; convert it.')
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return image[..., 0]
    return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)


def resize_grey(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``(H, W)`` to ``(height, width)``, averaging over areas where it shrinks."""
    if image.shape == tuple(size):
        return image
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=way)


@TRANSFORMS.register_module()
class LoadImagePair:
    """Read grey images ``image0`` and ``image1`` from ``image0_path`` and ``image1_path``."""

    def __call__(self, results: dict) -> dict:
        """Read both images."""
        images = {
            f'image{side}': to_grey(read_image(results[f'image{side}_path'])) for side in (0, 1)
        }
        return {**results, **images}


@TRANSFORMS.register_module()
class ResizePair:
    """Resize both images, each with its own scale.

    Args:
        size (tuple[int, int], optional): ``(height, width)`` of both.
        long_side (int, optional): Length of the longer side instead.
        short_side (int, optional): Length of the shorter side instead.
        divisor (int): Sides are rounded down to multiples of it.

    Raises:
        ValueError: If not exactly one of the sizes is given.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        long_side: int | None = None,
        short_side: int | None = None,
        divisor: int = 1,
    ) -> None:
        if sum(value is not None for value in (size, long_side, short_side)) != 1:
            raise ValueError('ResizePair takes one of size, long_side and short_side.')
        self.size = size
        self.long_side = long_side
        self.short_side = short_side
        self.divisor = divisor

    def __call__(self, results: dict) -> dict:
        """Resize; ``scale0`` and ``scale1`` become original pixels per new pixel."""
        results = dict(results)
        for side in (0, 1):
            image = results[f'image{side}']
            H, W = self.target(image.shape)
            results[f'scale{side}'] = (image.shape[1] / W, image.shape[0] / H)
            results[f'image{side}'] = resize_grey(image, (H, W))
        return results

    def target(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Size ``(height, width)`` that an image of this shape gets."""
        if self.size is not None:
            return self.size[0], self.size[1]
        edge, length = (max, self.long_side) if self.long_side else (min, self.short_side)
        assert length is not None  # one of the three is given
        scale = length / edge(shape[:2])
        height, width = (
            max(self.divisor, round(side * scale) // self.divisor * self.divisor)
            for side in shape[:2]
        )
        return height, width


@TRANSFORMS.register_module()
class PackPair:
    """Make tensors of the images, and a :class:`PairSample` of the ground truth."""

    def __call__(self, results: dict) -> dict:
        """Pack.

        Returns:
            dict: ``inputs`` with ``image0`` and ``image1``, ``(1, H, W)`` float32 in [0, 1], and
            ``data_samples``.
        """
        sample = PairSample()
        for name in TRUTH:
            if name in results:
                truth = np.ascontiguousarray(results[name], np.float32)
                sample.set_data({name: torch.from_numpy(truth)})
        sizes = {f'size{side}': results[f'image{side}'].shape[:2] for side in (0, 1)}
        meta = {**results, **sizes}
        sample.set_metainfo({key: meta[key] for key in META if key in meta})
        inputs = {
            name: torch.from_numpy(np.ascontiguousarray(results[name])).unsqueeze(0)
            for name in ('image0', 'image1')
        }
        return dict(inputs=inputs, data_samples=sample)
