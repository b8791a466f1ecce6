"""Stereo of arrays with a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config

from ...checkpoints import load_weights
from ...checkpoints.index import resolve
from ...models import build_model
from ...utils.device import check_device
from .model import StereoMatching

#: Above this probability a pixel counts as occluded.
OCCLUDED = 0.5


class StereoResult(NamedTuple):
    """Disparity and occlusion of an image.

    Attributes:
        disparity (np.ndarray): ``(H, W)`` float32, in pixels.
        occlusion (np.ndarray): ``(H, W)`` float32, probability that the other image does not show
            the pixel.
    """

    disparity: np.ndarray
    occlusion: np.ndarray


class StereoMatcher:
    """Disparity and occlusion of rectified pairs of any size.

    Args:
        model (StereoMatching): The model; it is put into eval mode.
        device (str | torch.device): Where to run it.

    Example:
        >>> matcher = StereoMatcher.from_config('configs/sttr_flyingthings.py', 'sttr.pth')
        >>> disparity, occlusion = matcher(left, right)
    """

    def __init__(self, model: StereoMatching, device: str | torch.device = 'cpu') -> None:
        self.model = model
        self.model.eval().to(device)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device = 'cpu',
    ) -> StereoMatcher:
        """Build the model of a config and load its weights.

        Args:
            config (str | Path | Config): Config with a :class:`StereoMatching`.
            checkpoint (str | Path, optional): Training checkpoint, converted weights, or
                ``'published'`` for those of the config.
            device (str | torch.device): Where to run.

        Raises:
            ValueError: If the config is not of a stereo network, or the weights are not its own.
        """
        check_device(str(device))
        model = build_model(config)
        if not isinstance(model, StereoMatching):
            raise ValueError(
                f'The model of this config is a {type(model).__name__}, no StereoMatching.'
            )
        if checkpoint is not None:
            load_weights(model, resolve(checkpoint, config))
        return cls(model, device)

    def __call__(self, left: np.ndarray, right: np.ndarray) -> StereoResult:
        """Compute the disparity of the left image.

        Args:
            left (np.ndarray): ``(H, W)``, ``(H, W, 3)`` RGB or ``(H, W, 4)``; uint8, uint16, or
                float in [0, 1].
            right (np.ndarray): Of the same size.

        Raises:
            ValueError: If the images are none of these, or differ in size.
        """
        images = {
            name: [torch.from_numpy(_to_levels(image))]
            for name, image in (('left', left), ('right', right))
        }
        data = self.model.data_preprocessor(dict(inputs=images))
        (found,) = self.model(data['inputs'], mode='predict')
        return StereoResult(found.disparity.cpu().numpy(), found.occlusion.cpu().numpy())

    def right_view(self, left: np.ndarray, right: np.ndarray) -> StereoResult:
        """Compute the disparity of the right image, by mirroring and swapping both."""
        mirrored = self(right[:, ::-1], left[:, ::-1])
        return StereoResult(*(array[:, ::-1] for array in mirrored))


def _to_levels(image: np.ndarray) -> np.ndarray:
    """RGB float32 ``(3, H, W)`` in [0, 255]."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(f'An image of shape {image.shape} is no (H, W), (H, W, 3) or (H, W, 4).')
    factor = {'uint8': 1.0, 'uint16': 255 / 65535}.get(image.dtype.name, 255.0)
    if factor == 255.0 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f'An image of {image.dtype} is not uint8, uint16 or float; convert it.')
    levels = image.astype(np.float32) * np.float32(factor)
    levels = levels[..., None] if levels.ndim == 2 else levels[..., :3]
    return np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:2], 3)).transpose(2, 0, 1))


def colour_disparity(
    disparity: np.ndarray, occlusion: np.ndarray | None = None, largest: float | None = None
) -> np.ndarray:
    """Colour a disparity map; occluded pixels are black.

    Args:
        disparity (np.ndarray): ``(H, W)``.
        occlusion (np.ndarray, optional): ``(H, W)``.
        largest (float, optional): Disparity of the last colour; the map's own by default.

    Returns:
        np.ndarray: RGB uint8 ``(H, W, 3)``.
    """
    largest = largest or float(np.nanmax(disparity)) or 1.0
    levels = np.rint(255 * (disparity / largest).clip(0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1].copy()
    if occlusion is not None:
        colours[occlusion > OCCLUDED] = 0
    return colours
