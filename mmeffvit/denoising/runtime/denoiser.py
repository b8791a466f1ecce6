"""Denoising arrays, images, folders and videos with a trained restorer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from ...checkpoints import load_weights
from ...checkpoints.index import resolve
from ...models import build_model
from ...utils.device import check_device
from ..data.structures import from_unit, to_unit
from .restorer import Restorer


class Denoiser:
    """Denoise numpy images with a trained model, keeping type, size, grey and alpha channels.

    Args:
        model (Restorer): The model; it is put into eval mode.
        device (str | torch.device): Where to run it.

    Example:
        >>> denoiser = Denoiser.from_config('configs/uformer_b_sidd.py', 'uformer_b.pth')
        >>> clean = denoiser(noisy)  # uint8 or uint16, (H, W), (H, W, 3) RGB or (H, W, 4)
    """

    def __init__(self, model: Restorer, device: str | torch.device = 'cpu') -> None:
        self.model = model
        self.model.eval().to(device)
        self.device = torch.device(device)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device = 'cpu',
        tile: int | None = None,
        overlap: int | None = None,
    ) -> Denoiser:
        """Build the model of a config and load its weights.

        Args:
            config (str | Path | Config): Config with a ``Restorer``.
            checkpoint (str | Path, optional): Training checkpoint, converted weights of the whole
                model or of its network, or ``'published'`` for those of the config.
            device (str | torch.device): Where to run.
            tile (int, optional): Side of a tile instead of the config's; 0 for whole images.
            overlap (int, optional): Overlap of tiles instead of the config's, which is scaled with
                the tile.

        Raises:
            ValueError: If the config is not of a denoiser, or the weights are not this model's.
        """
        check_device(str(device))
        model = build_model(config)
        if not isinstance(model, Restorer):
            raise ValueError(f'The model of this config is a {type(model).__name__}, no Restorer.')
        if tile is not None:
            configured = model.test_cfg.get('tile')
            if overlap is None and configured:
                divisor = model.backbone.size_divisor
                share = model.test_cfg.get('overlap', 0) * tile // configured
                overlap = share // divisor * divisor
            model.test_cfg['tile'] = tile
            model.test_cfg.setdefault('overlap', 0)
        if overlap is not None:
            model.test_cfg['overlap'] = overlap
        if checkpoint is not None:
            load_weights(model, resolve(checkpoint, config))
        return cls(model, device)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Denoise one image ``(H, W)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA."""
        return next(self.clip([image]))

    def clip(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Denoise frames of one size in order, holding only as many as the network needs."""
        originals: deque[np.ndarray] = deque()

        def inputs() -> Iterator[Tensor]:
            for frame in frames:
                originals.append(frame)
                yield self._to_tensor(frame)

        for out in self.model.denoise_frames(inputs()):
            yield self._to_array(out, originals.popleft())

    def _to_tensor(self, image: np.ndarray) -> Tensor:
        colours = to_unit(image if image.ndim == 2 else image[..., :3])
        if colours.ndim == 2:
            colours = np.repeat(colours[..., None], 3, axis=2)
        chw = np.ascontiguousarray(np.moveaxis(colours, -1, 0))
        return torch.from_numpy(chw)[None].to(self.device)

    @staticmethod
    def _to_array(out: Tensor, original: np.ndarray) -> np.ndarray:
        image = np.moveaxis(out[0].float().cpu().numpy(), 0, -1)
        if original.ndim == 2:
            return from_unit(image.mean(-1), original.dtype)
        image = from_unit(image, original.dtype)
        return np.concatenate([image, original[..., 3:]], axis=2)
