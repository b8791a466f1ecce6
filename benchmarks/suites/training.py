"""Whole training steps of detectors and segmentors on our backbones, mmdet's PVTv2 and Swin.

A step is pre-processing, losses in bfloat16 autocast, backward and AdamW (of rate 0, so that
weights stay). Head, neck and batch are the same for all candidates; pictures and annotations are
random.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from benchmarks.harness import Case
from mmeffvit.models import build_model
from mmeffvit.utils.config import activate_scope, read_config

CONFIGS = Path(__file__).parents[2] / 'configs'
PYRAMID, SWIN = (64, 128, 320, 512), (96, 192, 384, 768)
QUADTREE = dict(type='mmeffvit.QuadTreeTransformer', arch='b2')
SLIDE = dict(type='mmeffvit.SlideSwin', arch='tiny')
#: Backbones with the widths of their maps.
OTHERS = {
    'PVTv2-b2, mmdet': (
        dict(type='mmdet.PyramidVisionTransformerV2', embed_dims=64, num_layers=[3, 4, 6, 3]),
        PYRAMID,
    ),
    'Swin-T, mmdet': (dict(type='mmdet.SwinTransformer'), SWIN),
}


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    return {'RetinaNet 800x1333': _retinanet, 'UperNet 512x512': _upernet}


def _retinanet() -> Case:
    candidates = {
        **_variants('QuadTree-b2', QUADTREE, PYRAMID, ('mlp_tail', 'mlp', 'all')),
        'Slide-Swin-T': (SLIDE, SWIN),
    }
    config = read_config(CONFIGS / 'retinanet_quadtree_b2_coco.py')
    picture = torch.randint(0, 256, (3, 800, 1333), dtype=torch.uint8)
    batch = dict(inputs=[picture], data_samples=[_objects(picture)])
    return _case('RetinaNet 800x1333, batch 1, bfloat16', config, candidates, batch)


def _upernet() -> Case:
    candidates = {
        **_variants('Slide-Swin-T', SLIDE, SWIN, ('mlp', 'all')),
        'QuadTree-b2': (QUADTREE, PYRAMID),
    }
    config = read_config(CONFIGS / 'upernet_slide_swin_t_ade20k.py')
    pictures = torch.randint(0, 256, (2, 3, 512, 512), dtype=torch.uint8)
    batch = dict(inputs=list(pictures), data_samples=[_labels(picture) for picture in pictures])
    return _case('UperNet 512x512, batch 2, bfloat16', config, candidates, batch)


def _variants(
    name: str, backbone: dict, widths: tuple[int, ...], recomputed: tuple[str, ...]
) -> dict[str, tuple[dict, tuple[int, ...]]]:
    variants = {
        f'{name}, with_cp={part}': (dict(backbone, with_cp=part), widths) for part in recomputed
    }
    return {f'{name} (ours)': (backbone, widths), **variants}


def _case(name: str, config: Config, candidates: dict, batch: dict) -> Case:
    activate_scope(config)
    steps = {
        label: _step(_model(config, *parts), batch)
        for label, parts in {**candidates, **OTHERS}.items()
    }
    return Case(name, list, steps, modes=('step',), warm_up=1)


def _model(config: Config, backbone: dict, widths: tuple[int, ...]) -> nn.Module:
    config = Config(config.to_dict())
    config.model.backbone = backbone
    if 'neck' in config.model:
        config.model.neck.in_channels = widths
    else:
        config.model.decode_head.in_channels = widths
        config.model.auxiliary_head.in_channels = widths[2]
    return revert_sync_batchnorm(build_model(config))


def _step(model: nn.Module, batch: dict) -> Callable[[], list[Tensor]]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0)

    def step() -> list[Tensor]:
        data = model.data_preprocessor(batch, training=True)
        with torch.autocast('cpu', torch.bfloat16):
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return [loss.detach()]

    return step


def _objects(picture: Tensor, count: int = 8) -> object:
    from mmdet.structures import DetDataSample

    height, width = picture.shape[1:]
    corners = torch.rand(count, 2) * torch.tensor([width / 2, height / 2])
    sides = 16 + torch.rand(count, 2) * torch.tensor([width / 3, height / 3])
    sample = DetDataSample(metainfo=dict(img_shape=(height, width), scale_factor=(1.0, 1.0)))
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([corners, corners + sides], 1), labels=torch.randint(0, 80, (count,))
    )
    return sample


def _labels(picture: Tensor) -> object:
    from mmseg.structures import SegDataSample

    size = picture.shape[1:]
    sample = SegDataSample(metainfo=dict(img_shape=tuple(size)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, *size)))
    return sample
