"""Parameters and multiply-adds of whole models, as the frameworks' users quote them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from .flops import Complexity, count_complexity

#: The papers' input size per framework: COCO, ADE20K crops, ImageNet, denoising crops.
DEFAULT_SIZES = dict(mmdet=(800, 1280), mmseg=(512, 512), mmpretrain=(224, 224))
FALLBACK_SIZE = (256, 256)

#: Proposals that reach the box head and detections that reach the mask head, as mmdet counts.
NUM_BOXES, NUM_MASKS = 1000, 100


def build_model(config: Config) -> nn.Module:
    """Build a config's model in the config's scope, as a Runner would."""
    model = config.model.copy()
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmeffvit')):
        return MODELS.build(model)


def count_config(config: Config, size: Sequence[int] | None = None) -> Complexity:
    """Count the model of a config at one image.

    Detectors are counted with their heads on 1000 proposals and 100 masks, segmentors with the
    decode head only, classifiers with the classifier: what runs at test time.

    Args:
        config (Config): Any config of mmdet, mmseg, mmpretrain or this package.
        size (Sequence[int], optional): ``(H, W)``, or ``(T, H, W)`` for video; the size that the
            papers use if not given.

    Returns:
        Complexity: Parameters of the whole model, multiply-adds of one image.
    """
    scope = config.get('default_scope')
    size = tuple(size or DEFAULT_SIZES.get(scope, FALLBACK_SIZE))
    model = build_model(config)
    return count_complexity(model, (1, 3, *size), forward=test_time_forward)


def test_time_forward(model: nn.Module, inputs: Tensor) -> object:
    """Run what a model runs on one image at test time, without its post-processing."""
    if hasattr(model, 'roi_head'):
        return _two_stages(model, inputs)
    return model(inputs, mode='tensor')


def _two_stages(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Heads see features of fixed size: which boxes there are does not change the cost."""
    features = model.extract_feat(inputs)
    model.rpn_head(features)
    roi_head, outputs = model.roi_head, []
    box_heads = roi_head.bbox_head
    box_heads = box_heads if isinstance(box_heads, nn.ModuleList) else [box_heads]
    extractors = roi_head.bbox_roi_extractor
    extractors = extractors if isinstance(extractors, nn.ModuleList) else [extractors]
    for extractor, head in zip(extractors, box_heads):
        outputs.append(head(_rois(extractor, NUM_BOXES)))
    if getattr(roi_head, 'with_mask', False):
        mask_heads, extractors = roi_head.mask_head, roi_head.mask_roi_extractor
        # A cascade's masks come from its heads' average; each head runs.
        mask_heads = mask_heads if isinstance(mask_heads, nn.ModuleList) else [mask_heads]
        extractors = extractors if isinstance(extractors, nn.ModuleList) else [extractors]
        for extractor, head in zip(extractors, mask_heads):
            outputs.append(head(_rois(extractor, NUM_MASKS)))
    return outputs


def _rois(extractor: nn.Module, count: int) -> Tensor:
    side = extractor.roi_layers[0].output_size
    return torch.empty(count, extractor.out_channels, *side, device='meta')
