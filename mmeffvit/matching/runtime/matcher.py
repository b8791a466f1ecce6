"""Matching of arrays and files with a trained matcher."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from ...checkpoints import load_weights
from ...checkpoints.index import resolve
from ...models import build_model
from ...utils.device import check_device
from ..data.structures import PairSample
from ..data.transforms import resize_grey, to_grey
from .model import FeatureMatcher

#: Longer side that images are shrunk to, as at evaluation on MegaDepth.
LONG_SIDE = 840


class ImageMatches(NamedTuple):
    """Matches of two images.

    Attributes:
        points0 (np.ndarray): ``(M, 2)`` float32 ``(x, y)`` in pixels of image 0.
        points1 (np.ndarray): ``(M, 2)`` in pixels of image 1.
        confidence (np.ndarray): ``(M,)``.
    """

    points0: np.ndarray
    points1: np.ndarray
    confidence: np.ndarray


class Matcher:
    """Match two images of any sizes with a trained matcher.

    Args:
        model (FeatureMatcher): The model; it is put into eval mode.
        device (str | torch.device): Where to run it.
        long_side (int, optional): Images are shrunk to this longer side, and the points scaled
            back; None matches them as they are.

    Raises:
        ValueError: If ``long_side`` is not positive.

    Example:
        >>> matcher = Matcher.from_config('configs/quadtree_matcher_outdoor_megadepth.py', 'w.pth')
        >>> points0, points1, confidence = matcher(first, second)
    """

    def __init__(
        self,
        model: FeatureMatcher,
        device: str | torch.device = 'cpu',
        long_side: int | None = LONG_SIDE,
    ) -> None:
        if long_side is not None and long_side < 1:
            raise ValueError(f'long_side={long_side} must be positive.')
        self.model = model
        self.model.eval().to(device)
        self.device = torch.device(device)
        self.long_side = long_side

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device = 'cpu',
        long_side: int | None = LONG_SIDE,
    ) -> Matcher:
        """Build the model of a config and load its weights.

        Args:
            config (str | Path | Config): Config with a :class:`FeatureMatcher`.
            checkpoint (str | Path, optional): Training checkpoint, converted weights, or
                ``'published'`` for those of the config.
            device (str | torch.device): Where to run.
            long_side (int, optional): See the class.

        Raises:
            ValueError: If the config is not of a matcher, or the weights are not this model's.
        """
        check_device(str(device))
        model = build_model(config)
        if not isinstance(model, FeatureMatcher):
            raise ValueError(
                f'The model of this config is a {type(model).__name__}, no FeatureMatcher.'
            )
        if checkpoint is not None:
            load_weights(model, resolve(checkpoint, config))
        return cls(model, device, long_side)

    def __call__(
        self,
        image0: np.ndarray,
        image1: np.ndarray,
        mask0: np.ndarray | None = None,
        mask1: np.ndarray | None = None,
        max_matches: int | None = None,
    ) -> ImageMatches:
        """Match two images.

        Args:
            image0 (np.ndarray): ``(H, W)``, ``(H, W, 3)`` RGB or ``(H, W, 4)``; uint8, uint16, or
                float in [0, 1].
            image1 (np.ndarray): The other one, of any size.
            mask0 (np.ndarray, optional): Boolean ``(H, W)``, False where image 0 is not matched.
            mask1 (np.ndarray, optional): The same of image 1.
            max_matches (int, optional): The most confident matches that are returned.

        Returns:
            ImageMatches: In pixels of the images that were given.

        Raises:
            ValueError: If an image is none of these, or a mask has another size.
        """
        sample = PairSample()
        inputs: dict[str, Tensor | None] = {}
        for side, image, mask in ((0, image0, mask0), (1, image1, mask1)):
            network, cells, scale = self._prepare(image, mask)
            inputs[f'image{side}'], inputs[f'mask{side}'] = network, cells
            sample.set_metainfo({f'scale{side}': scale})
        (found,) = self.model(inputs, [sample], mode='predict')
        order = found.confidence.argsort(descending=True)[:max_matches]
        return ImageMatches(
            *(
                getattr(found, name)[order].float().cpu().numpy()
                for name in ('points0', 'points1', 'confidence')
            )
        )

    def _prepare(
        self, image: np.ndarray, mask: np.ndarray | None
    ) -> tuple[Tensor, Tensor | None, tuple[float, float]]:
        """Network image ``(1, 1, H, W)``, cell mask and original pixels per network pixel."""
        grey = to_grey(image)
        H, W = grey.shape
        shrink = min(1.0, (self.long_side or max(H, W)) / max(H, W))
        size = max(1, round(H * shrink)), max(1, round(W * shrink))
        tensor = torch.from_numpy(np.ascontiguousarray(resize_grey(grey, size)))
        cells = None
        if mask is not None:
            if mask.shape != (H, W):
                raise ValueError(f'A mask of {mask.shape} does not fit an image of {(H, W)}.')
            rows, columns = (
                np.minimum(np.arange(0, new, self.model.stride) * old // new, old - 1)
                for new, old in zip(size, (H, W))
            )
            cells = torch.from_numpy(mask[np.ix_(rows, columns)].astype(bool))
            cells = cells[None].to(self.device)
        return tensor[None, None].to(self.device), cells, (W / size[1], H / size[0])
