from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor

from ...registry import MODELS, build_layer
from ..data.structures import StereoSample
from ..networks.attention import EpipolarAttention, EpipolarTreeAttention
from ..networks.features import STTRFeatures
from ..networks.regression import (
    ContextAdjustment,
    DisparityRegression,
    StereoOutput,
    sampled,
)
from ..networks.transformer import StereoTransformer
from .losses import StereoLoss


@MODELS.register_module()
class StereoPreprocessor(BaseDataPreprocessor):
    """Move rectified pairs to the device, normalise them, and stack those of one size.

    Args:
        mean (Sequence[float]): Of RGB values in [0, 255].
        std (Sequence[float]): Their deviation.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs`` with lists ``left`` and ``right`` of RGB images ``(3, H, W)``
                in [0, 255], and ``data_samples``.
            training (bool): Whether sizes have to agree.

        Returns:
            dict: ``inputs`` with ``left`` and ``right``, ``(B, 3, H, W)``, or still lists where
            sizes differ; ``data_samples``.

        Raises:
            ValueError: If the images of a pair differ in size, or in training those of a batch.
        """
        data = cast(dict, self.cast_data(data))
        sides = {
            side: [(image.float() - self.mean) / self.std for image in data['inputs'][side]]
            for side in ('left', 'right')
        }
        for left, right in zip(sides['left'], sides['right']):
            if left.shape != right.shape:
                raise ValueError(
                    f'The left image is {_size(left)} and the right one {_size(right)}; rectified '
                    'images have one size.'
                )
        sizes = {tuple(image.shape) for image in sides['left']}
        if len(sizes) == 1:
            sides = {side: torch.stack(images) for side, images in sides.items()}
        elif training:
            raise ValueError(f'Cannot batch images of sizes {sorted(sizes)}; crop them to one.')
        return dict(inputs=sides, data_samples=data.get('data_samples'))


def _size(image: Tensor) -> str:
    return f'{image.shape[-2]}x{image.shape[-1]}'


def _sttr(attention: dict) -> dict[str, dict]:
    return dict(
        features=dict(type=STTRFeatures),
        transformer=dict(type=StereoTransformer, attention=attention),
        regression=dict(type=DisparityRegression, context=dict(type=ContextAdjustment)),
    )


@MODELS.register_module()
class StereoMatching(BaseModel):
    """Disparity and occlusion of rectified pairs by attention along their lines: STTR.

    Args:
        features (dict): Features at the resolution of the images, :class:`STTRFeatures` or
            :class:`UNetFeatures`.
        transformer (dict): A :class:`StereoTransformer`; its width is that of the features.
        regression (dict, optional): Options of :class:`DisparityRegression`.
        stride (int): Rows and columns between tokens; 1 for every pixel.
        loss (dict, optional): :class:`StereoLoss` by default.
        data_preprocessor (dict, optional): :class:`StereoPreprocessor` by default.
        init_cfg (dict, optional): mmengine initialisation.

    Raises:
        ValueError: If the stride is below 1.

    Source: Li et al., "Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective
    with Transformers" (ICCV 2021). With :class:`EpipolarTreeAttention` it stands for the stereo
    results of the QuadTree paper, whose code is not public.
    """

    image_names = ('left', 'right')
    image_channels = 3
    zoo: ClassVar[dict[str, dict]] = {
        'sttr': _sttr(dict(type=EpipolarAttention)),
        'quadtree_sttr': _sttr(dict(type=EpipolarTreeAttention, levels=4, topks=6)),
    }

    def __init__(
        self,
        features: dict,
        transformer: dict,
        regression: dict | None = None,
        stride: int = 3,
        loss: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(build_layer(data_preprocessor or dict(type=StereoPreprocessor)), init_cfg)
        if stride < 1:
            raise ValueError(f'stride={stride} must be at least 1, which takes every pixel.')
        self.features: Any = build_layer(features)
        self.transformer: Any = build_layer(transformer, embed_dims=self.features.embed_dims)
        self.regression: Any = build_layer({'type': 'DisparityRegression', **(regression or {})})
        self.stride = stride
        self.loss_module: Any = build_layer(loss or dict(type=StereoLoss))

    def forward(
        self,
        inputs: dict[str, Any],
        data_samples: Sequence[StereoSample] | None = None,
        mode: str = 'tensor',
    ) -> StereoOutput | dict[str, Tensor] | list[StereoSample]:
        """Run the model the mmengine way.

        Args:
            inputs (dict): ``left`` and ``right``, ``(B, 3, H, W)`` and normalised; in
                ``'predict'`` also lists of ``(3, H, W)``.
            data_samples (Sequence[StereoSample], optional): Ground truth, for ``'loss'``.
            mode (str): ``'tensor'`` the :class:`StereoOutput`, ``'loss'`` a dict of losses,
                ``'predict'`` the samples with disparity and occlusion.

        Raises:
            ValueError: If the mode is none of these.
        """
        left, right = inputs['left'], inputs['right']
        if mode == 'tensor':
            return self.run(left, right)
        if mode == 'loss':
            return self.loss(left, right, data_samples or ())
        if mode == 'predict':
            return self.predict(left, right, data_samples)
        raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'.")

    def logits(self, left: Tensor, right: Tensor) -> Tensor:
        """Logits ``(B, h, w, w)`` of the tokens of left and right images ``(B, 3, H, W)``."""
        features = self.features(torch.cat([left, right]))
        H, W = left.shape[-2:]
        tokens = features[..., sampled(H, self.stride), sampled(W, self.stride)]
        return self.transformer(*tokens.chunk(2), spacing=W / tokens.shape[-1])

    def run(self, left: Tensor, right: Tensor, occluded: Tensor | None = None) -> StereoOutput:
        """Compute disparity and occlusion.

        Args:
            left (Tensor): ``(B, 3, H, W)``, normalised.
            right (Tensor): ``(B, 3, H, W)``.
            occluded (Tensor, optional): True occlusion ``(B, H, W)``, read only where the
                regression is compatible with STTR's.
        """
        H, W = left.shape[-2:]
        if min(H, W) <= self.stride // 2:
            raise ValueError(f'{W}x{H} pixels hold no token at stride={self.stride}.')
        if occluded is not None:
            occluded = occluded[..., sampled(H, self.stride), sampled(W, self.stride)]
        return self.regression(self.logits(left, right), left, self.stride, occluded)

    def loss(
        self, left: Tensor, right: Tensor, data_samples: Sequence[StereoSample]
    ) -> dict[str, Tensor]:
        """Losses of a batch, see :class:`StereoLoss`."""
        disparity, occluded, occluded_right = (
            torch.stack([sample.get(name) for sample in data_samples])
            for name in ('gt_disparity', 'gt_occlusion', 'gt_occlusion_right')
        )
        # Occluded pixels have a disparity, but no match.
        disparity = disparity.masked_fill(occluded, 0)
        out = self.run(left, right, occluded)
        return self.loss_module(out, disparity, occluded, occluded_right, self.stride)

    @torch.no_grad()
    def predict(
        self,
        left: Tensor | Sequence[Tensor],
        right: Tensor | Sequence[Tensor],
        data_samples: Sequence[StereoSample] | None = None,
    ) -> list[StereoSample]:
        """Disparity and occlusion of every pair; see :meth:`forward`."""
        if data_samples is None:
            data_samples = [StereoSample() for _ in left]
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            out = self.run(left, right)
            found = zip(out.disparity, out.occlusion)
        else:
            outs = (self.run(a[None], b[None]) for a, b in zip(left, right))
            found = ((out.disparity[0], out.occlusion[0]) for out in outs)
        for sample, (disparity, occlusion) in zip(data_samples, found):
            sample.disparity = disparity.float()
            sample.occlusion = occlusion.float()
        return list(data_samples)
