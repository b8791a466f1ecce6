"""Tiny synthetic batches, one function per framework scope."""

from __future__ import annotations

import torch
from mmengine import Config

TRAIN_SIZE = (96, 128)


def _images(count: int, size: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, *size)
    return list(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))


def detection(config: Config, size: tuple[int, int], count: int) -> dict:
    """Images with two boxes and their masks each."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    H, W = size
    samples = []
    for index in range(count):
        boxes = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.3, 0.2, 0.95, 0.9]])
        boxes = boxes * torch.tensor([W, H, W, H])
        masks = torch.zeros(2, H, W, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
            mask[top:bottom, left:right] = 1
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=size,
                ori_shape=size,
                scale_factor=(1.0, 1.0),
                flip=False,
                flip_direction=None,
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.tensor([0, 1]), masks=BitmapMasks(masks.numpy(), H, W)
        )
        samples.append(sample)
    return dict(inputs=_images(count, size), data_samples=samples)


def segmentation(config: Config, size: tuple[int, int], count: int) -> dict:
    """Images with label maps of two classes and some ignored pixels."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.zeros(1, *size, dtype=torch.long)
    labels[:, size[0] // 2 :] = 1
    labels[:, :, :4] = 255
    samples = []
    for _ in range(count):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=labels.clone())
        samples.append(sample)
    return dict(inputs=_images(count, size), data_samples=samples)


def classification(config: Config, size: tuple[int, int], count: int) -> dict:
    """Images with a label each."""
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(index) for index in range(count)]
    return dict(inputs=_images(count, size), data_samples=samples)


def restoration(config: Config, size: tuple[int, int], count: int) -> dict:
    """Noisy images with their clean ones; for video, clips of two frames and a quarter the area."""
    from mmeffvit.denoising import RestorationSample

    special = dict(FeatureMatcher=image_pairs, StereoMatching=stereo_pairs)
    if config.model.type in special:
        return special[config.model.type](size, count)
    is_video = 'UniFormer' in config.model.backbone.type
    shape = (3, 2, size[0] // 2, size[1] // 2) if is_video else (3, *size)
    inputs = list(torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)))
    samples = []
    for noisy in inputs:
        sample = RestorationSample()
        sample.gt_img = noisy.clamp(0.2, 0.8)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def image_pairs(size: tuple[int, int], count: int) -> dict:
    """Grey images and the same ones again, of noise on blocks."""
    from mmeffvit.matching import PairSample

    images = [image[:1].float() / 255 for image in _images(count, size)]
    samples = []
    for _ in images:
        sample = PairSample(metainfo=dict(size0=size, size1=size))
        sample.homography = torch.eye(3)
        samples.append(sample)
    return dict(inputs=dict(image0=images, image1=images), data_samples=samples)


def stereo_pairs(size: tuple[int, int], count: int) -> dict:
    """Images and the same ones moved by eight pixels."""
    from mmeffvit.stereo import StereoSample

    left = _images(count, size)
    samples = []
    for _ in left:
        sample = StereoSample()
        sample.gt_disparity = torch.full(size, 8.0)
        sample.gt_occlusion = torch.zeros(size, dtype=torch.bool)
        sample.gt_occlusion[:, :8] = True
        sample.gt_occlusion_right = sample.gt_occlusion.flip(1)
        samples.append(sample)
    right = [image.roll(-8, 2) for image in left]
    return dict(inputs=dict(left=left, right=right), data_samples=samples)


BATCHES = dict(mmdet=detection, mmseg=segmentation, mmpretrain=classification, mmeffvit=restoration)
