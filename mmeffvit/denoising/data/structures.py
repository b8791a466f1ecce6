from __future__ import annotations

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor

from ...utils.images import PEAKS


class RestorationSample(BaseDataElement):
    """Ground truth and prediction of one noisy image or clip.

    Values are float32 in [0, 1] except that noise may leave the range; colours are RGB.

    Attributes:
        gt_img (Tensor): Clean image ``(3, H, W)`` or clip ``(3, T, H, W)``.
        pred_img (Tensor): The model's prediction, of the same shape, clamped to [0, 1].
    """

    gt_img: Tensor
    pred_img: Tensor


def to_unit(image: np.ndarray) -> np.ndarray:
    """Scale an 8- or 16-bit image to float32 in [0, 1]; a float image passes.

    Raises:
        ValueError: If the type is none of these.
    """
    if np.issubdtype(image.dtype, np.floating):
        return image.astype(np.float32, copy=False)
    if image.dtype.name not in PEAKS:
        raise ValueError(f'An image of {image.dtype} is not uint8, uint16 or float; convert it.')
    return image.astype(np.float32) / np.float32(PEAKS[image.dtype.name])


def from_unit(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Undo :func:`to_unit`: clamp to [0, 1], scale, round to nearest."""
    if np.issubdtype(dtype, np.floating):
        return np.clip(image, 0, 1).astype(dtype, copy=False)
    peak = PEAKS[np.dtype(dtype).name]
    return np.rint(np.clip(image, 0, 1) * np.float64(peak)).astype(dtype)
