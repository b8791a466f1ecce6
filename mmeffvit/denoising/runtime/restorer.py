from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor

from ...registry import MODELS, build_layer
from ..data.structures import RestorationSample
from .losses import CharbonnierLoss
from .tiling import run_clip, run_tiled


@MODELS.register_module()
class RestorationPreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and stack its images if they have one size.

    Images come in [0, 1] from the pipeline; the denoisers take them as they are.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs``, a list of images ``(3, H, W)`` or clips ``(3, T, H, W)``, and
                ``data_samples``.
            training (bool): Whether sizes have to agree.

        Returns:
            dict: ``inputs`` stacked, or still a list if sizes differ; ``data_samples``.

        Raises:
            ValueError: If sizes differ in training.
        """
        data = cast(dict, self.cast_data(data))
        inputs = data['inputs']
        sizes = {tuple(image.shape) for image in inputs}
        if len(sizes) == 1:
            inputs = torch.stack(list(inputs))
        elif training:
            raise ValueError(
                f'Cannot batch images of different sizes {sorted(sizes)}; crop them to one size.'
            )
        return dict(inputs=inputs, data_samples=data.get('data_samples'))


class MixUp:
    """Blend every sample of a batch with another one, the noisy and the clean image equally.

    Args:
        alpha (float): The blend is drawn from Beta(alpha, alpha), one per sample.
        begin_epoch (int): First epoch, counted from 0, that blends.

    Source: Zhang et al., "mixup" (ICLR 2018), as in the training code of Uformer.
    """

    def __init__(self, alpha: float = 1.2, begin_epoch: int = 0) -> None:
        self.blend = torch.distributions.Beta(alpha, alpha)
        self.begin_epoch = begin_epoch

    def __call__(self, noisy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Blend ``(B, ...)`` with a permutation of itself."""
        epoch = MessageHub.get_current_instance().get_info('epoch', 0)
        if epoch < self.begin_epoch:
            return noisy, clean
        B = len(noisy)
        share = self.blend.sample((B,)).to(noisy).view(-1, *(1,) * (noisy.ndim - 1))
        other = torch.randperm(B, device=noisy.device)
        noisy, clean = (share * x + (1 - share) * x[other] for x in (noisy, clean))
        return noisy, clean


@MODELS.register_module()
class Restorer(BaseModel):
    """Denoiser: network, loss, MixUp and tiled inference.

    Args:
        backbone (dict): Network from noisy to clean images. Its ``size_divisor`` is the number that
            sides are padded to multiples of; its ``num_frames`` the length of its clips, None for
            networks of single images.
        loss (dict, optional): Loss of prediction and ground truth, :class:`CharbonnierLoss` by
            default.
        train_cfg (dict, optional): ``mixup``, the arguments of :class:`MixUp`.
        test_cfg (dict, optional): ``tile`` and ``overlap`` of :func:`run_tiled`, for images larger
            than a tile; without them the network runs on whole images.
        data_preprocessor (dict, optional): :class:`RestorationPreprocessor` by default.
        init_cfg (dict, optional): mmengine initialisation.
    """

    backbone: Any

    def __init__(
        self,
        backbone: dict,
        loss: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = build_layer(data_preprocessor or RestorationPreprocessor)
        super().__init__(preprocessor, init_cfg)
        self.backbone = build_layer(backbone)
        self.loss = build_layer(loss or CharbonnierLoss)
        mixup = (train_cfg or {}).get('mixup')
        self.mixup = None if mixup is None else MixUp(**mixup)
        self.test_cfg = dict(test_cfg or {})

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: Sequence[RestorationSample] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | list[RestorationSample]:
        """Run the model the mmengine way.

        Args:
            inputs (Tensor | Sequence[Tensor]): Noisy ``(B, 3, H, W)`` or ``(B, 3, T, H, W)``; in
                ``'predict'`` also a list of ``(3, ...)`` of different sizes.
            data_samples (Sequence[RestorationSample], optional): Ground truth, for ``'loss'``.
            mode (str): ``'tensor'`` the network's output, ``'loss'`` a dict with the loss,
                ``'predict'`` the samples with ``pred_img``.

        Raises:
            ValueError: If the mode is none of these.
        """
        if mode == 'tensor':
            return self.backbone(inputs)
        if mode == 'loss':
            clean = torch.stack([sample.gt_img for sample in data_samples or ()])
            if self.mixup is not None:
                inputs, clean = self.mixup(cast(Tensor, inputs), clean)
            return dict(loss=self.loss(self.backbone(inputs), clean))
        if mode != 'predict':
            raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'.")
        if data_samples is None:
            data_samples = [RestorationSample() for _ in inputs]
        if isinstance(inputs, Tensor):
            images = self.denoise(inputs)
        else:
            images = [self.denoise(image[None])[0] for image in inputs]
        for sample, image in zip(data_samples, images):
            sample.pred_img = image
        return list(data_samples)

    def denoise(self, noisy: Tensor) -> Tensor:
        """Denoise ``(B, 3, H, W)`` or ``(B, 3, T, H, W)`` of any size; the result is in [0, 1]."""
        if noisy.ndim == 4 and self.backbone.num_frames is None:
            return self._denoise_part(noisy)
        frames = noisy.unbind(2) if noisy.ndim == 5 else [noisy]
        out = torch.stack(list(self.denoise_frames(frames)), 2)
        return out if noisy.ndim == 5 else out.squeeze(2)

    def denoise_frames(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Denoise frames ``(B, 3, H, W)`` one after the other, yielding them in order.

        Args:
            frames (Iterable[Tensor]): A sequence of any length; a clip network holds two windows of
                it at a time.
        """
        if self.backbone.num_frames is None:
            yield from map(self._denoise_part, frames)
        else:
            yield from run_clip(self._denoise_part, frames, self.backbone.num_frames)

    @torch.no_grad()
    def _denoise_part(self, noisy: Tensor) -> Tensor:
        if not self.test_cfg.get('tile'):
            return self.backbone(noisy).clamp(0, 1)
        clean = run_tiled(
            self.backbone,
            noisy,
            self.test_cfg['tile'],
            self.test_cfg['overlap'],
            self.backbone.size_divisor,
        )
        return clean.clamp(0, 1)
