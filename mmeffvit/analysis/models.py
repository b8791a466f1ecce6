"""Parameters and multiply-adds of whole models at test time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..models import build_model
from .flops import Complexity, count_complexity

#: The papers' input size per framework: COCO, ADE20K crops, ImageNet, denoising crops.
DEFAULT_SIZES = dict(mmdet=(800, 1280), mmseg=(512, 512), mmpretrain=(224, 224))
FALLBACK_SIZE = (256, 256)

#: Proposals that reach the box head and detections that reach the mask head, as mmdet counts.
NUM_BOXES, NUM_MASKS = 1000, 100


def default_size(model: nn.Module) -> tuple[int, int]:
    """The input size at which papers quote such a model."""
    if isinstance(model, Backbone):
        return DEFAULT_SIZES['mmpretrain']
    return DEFAULT_SIZES.get(type(model).__module__.partition('.')[0], FALLBACK_SIZE)


def input_shape(model: nn.Module, size: Sequence[int], batch: int = 1) -> tuple[int, ...]:
    """Shape of a batch for a model of any task.

    Args:
        model (nn.Module): A backbone, a denoiser, or a whole model with one.
        size (Sequence[int]): ``(H, W)``, or ``(T, H, W)``; the model's own number of frames is
            filled in.
        batch (int): Number of images or clips.

    Raises:
        ValueError: If a clip is given to a model of images.
    """
    num_frames = getattr(getattr(model, 'backbone', model), 'num_frames', None)
    size = tuple(size)
    if len(size) == 3 and num_frames is None:
        raise ValueError(f'size={size} is a clip, but this {type(model).__name__} takes images.')
    if len(size) == 2 and num_frames is not None:
        size = (num_frames, *size)
    return (batch, 3, *size)


def count_model(model: nn.Module, size: Sequence[int] | None = None) -> Complexity:
    """Count parameters, and the multiply-adds of :func:`test_time_forward` on one image."""
    shape = input_shape(model, size or default_size(model))
    return count_complexity(model, shape, forward=test_time_forward)


def count_config(config: Config, size: Sequence[int] | None = None) -> Complexity:
    """Count the model of a config at one image: what :func:`test_time_forward` runs.

    Args:
        config (Config): Any config of mmdet, mmseg, mmpretrain or this package.
        size (Sequence[int], optional): ``(H, W)``, or ``(T, H, W)`` for video; the size that the
            papers use if not given.

    Returns:
        Complexity: Parameters of the whole model, multiply-adds of one image.
    """
    return count_model(build_model(config), size)


def test_time_forward(model: nn.Module, inputs: Tensor) -> object:
    """Run the forward pass of test time, without post-processing.

    Two-stage detectors run their heads on 1000 proposals and 100 masks, segmentors the decode head
    only, classifiers the classifier; matchers and stereo networks take the image for both of a
    pair.
    """
    if hasattr(model, 'image_names'):  # of pairs, which are counted as one image each
        return _pair(model, inputs)
    if hasattr(model, 'roi_head'):
        return _two_stages(model, inputs)
    return model(inputs, mode='tensor') if isinstance(model, BaseModel) else model(inputs)


def _pair(model: Any, inputs: Tensor) -> object:
    images = inputs[:, : model.image_channels]
    return model(dict.fromkeys(model.image_names, images), mode='tensor')


def _two_stages(model: Any, inputs: Tensor) -> list[Tensor]:
    """Heads take features of fixed size, so the cost does not depend on the boxes."""
    features = model.extract_feat(inputs)
    model.rpn_head(features)
    roi_head, outputs = model.roi_head, []
    box_heads = roi_head.bbox_head
    box_heads = box_heads if isinstance(box_heads, nn.ModuleList) else [box_heads]
    extractors = roi_head.bbox_roi_extractor
    extractors = extractors if isinstance(extractors, nn.ModuleList) else [extractors]
    for extractor, head in zip(extractors, box_heads):
        outputs.append(head(_rois(extractor, NUM_BOXES, inputs)))
    if getattr(roi_head, 'with_mask', False):
        mask_heads, extractors = roi_head.mask_head, roi_head.mask_roi_extractor
        # A cascade's masks come from its heads' average; each head runs.
        mask_heads = mask_heads if isinstance(mask_heads, nn.ModuleList) else [mask_heads]
        extractors = extractors if isinstance(extractors, nn.ModuleList) else [extractors]
        for extractor, head in zip(extractors, mask_heads):
            outputs.append(head(_rois(extractor, NUM_MASKS, inputs)))
    return outputs


def _rois(extractor: Any, count: int, like: Tensor) -> Tensor:
    side = extractor.roi_layers[0].output_size
    return like.new_zeros(count * len(like), extractor.out_channels, *side)
