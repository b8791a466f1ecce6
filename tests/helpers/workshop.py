"""A folder of tiny configs, weights and pictures, and a command of every tool that works in it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config

from helpers.tool_runs import ROOT, TINY_CLASSIFIER, TINY_DETECTOR
from mmeffvit import get_model
from mmeffvit.models import build_model
from mmeffvit.utils.images import write_image
from mmeffvit.utils.videos import VideoWriter

CONFIGS = {
    'detector.py': TINY_DETECTOR,
    'classifier.py': TINY_CLASSIFIER
    + "train_cfg['max_epochs'] = 1\ntrain_dataloader['batch_size'] = 4\n",
    'elastic.py': TINY_CLASSIFIER
    + "model['backbone'] = dict(type='mmeffvit.LookupViT', img_size=64, patch_size=16, "
    'compressed_size=(2, 2), arch=dict(embed_dims=32, depth=2, num_heads=2))\n',
    'vit.py': TINY_CLASSIFIER
    + "model['backbone'] = dict(type='mmeffvit.VisionTransformer', img_size=64, patch_size=16, "
    'arch=dict(embed_dims=32, depth=2, num_heads=2))\n',
    'matcher.py': f"_base_ = '{ROOT}/configs/quadtree_matcher_t_shapes.py'\n",
    'stereo.py': f"_base_ = '{ROOT}/configs/sttr_t_shapes.py'\n",
    'denoiser.py': f"_base_ = '{ROOT}/configs/uformer_t_shapes.py'\n"
    'model = dict(backbone=dict(arch=dict(_delete_=True, embed_dims=4, depths=(1,) * 9)))\n',
}

#: The tools, each with arguments that work in the folder; results go below ``out``.
COMMANDS: dict[str, list[str]] = {
    'train.py': ['classifier.py', '--data-root', 'classification', '--work-dir', 'out', '--seed=0'],
    'test.py': [
        *('classifier.py', 'classifier.pth', '--data-root', 'classification'),
        *('--work-dir', 'out', '--out', 'out/predictions.pkl'),
    ],
    'infer.py': [
        *('classifier.py', 'classifier.pth', 'pictures', 'clip.avi'),
        *('--out', 'out', '--save-predictions'),
    ],
    'denoise.py': ['denoiser.py', 'denoiser.pth', 'pictures', '--out', 'out'],
    'convert_checkpoint.py': [
        *('public.pth', 'out/converted.safetensors', '--family', 'vit', '--num-heads', '2')
    ],
    'match.py': ['matcher.py', 'matcher.pth', 'pictures/1.png', 'pictures/2.png', '--out', 'out'],
    'stereo.py': ['stereo.py', 'stereo.pth', 'pictures/1.png', 'pictures/2.png', '--out', 'out'],
    'weights.py': ['list', 'swin*'],
    'publish.py': ['vit.pth', 'out/vit.safetensors', '--config', 'vit.py'],
    'analysis_tools/elastic_eval.py': [
        *('elastic.py', 'elastic.pth', '--sizes', '1', '--data-root', 'classification'),
        *('--work-dir', 'out', '--json', 'out/curve.json', '--out', 'out/curve.png'),
    ],
    'analysis_tools/get_flops.py': ['vit.py', '--shape', '64', '64'],
    'analysis_tools/layer_similarity.py': [
        *('vit.py', 'pictures', '--checkpoint', 'vit.pth', '--out', 'out'),
        *('--size', '64', '64', '--batch-size', '4'),
    ],
    'visualization/attention.py': ['vit.py', 'vit.pth', 'pictures/2.png', 'out/sheet.png'],
    'deployment/export_onnx.py': [
        *('vit.py', 'vit.pth', 'model.onnx', '--backbone-only', '--fixed-size'),
        *('--shape', '32', '45'),
    ],
    'deployment/export_matcher.py': [
        *('matcher.py', 'matcher.pth', 'model.onnx', '--size', '32', '40', '--size1', '40', '32')
    ],
    'dataset_converters/crop_sidd.py': ['sidd', 'out', '--patches', '300', '--size', '8'],
}


def furnish(folder: Path, shapes: Path) -> None:
    """Fill a folder with what the commands read.

    Args:
        folder (Path): An empty folder.
        shapes (Path): The tiny shapes dataset.
    """
    for name, text in CONFIGS.items():
        (folder / name).write_text(text)
        if name != 'detector.py':
            model = build_model(Config.fromfile(folder / name))
            torch.save(model.state_dict(), folder / name.replace('.py', '.pth'))
    for part in ('classification', 'scenes'):
        (folder / part).symlink_to(shapes / part)
    rng = np.random.default_rng(0)
    for number in range(1, 6):
        write_image(folder / f'pictures/{number}.png', smooth(rng, (64, 64)))
    with VideoWriter(folder / 'clip.avi', 5) as writer:
        for _ in range(3):
            writer.write(smooth(rng, (48, 64)))
    for kind in ('NOISY', 'GT'):
        for scene in ('0001', '0002'):
            write_image(folder / f'sidd/{scene}/{scene}_{kind}_SRGB_010.PNG', smooth(rng, (12, 16)))
    arch = dict(embed_dims=32, depth=2, num_heads=2)
    state = get_model('vit_t', arch=arch, img_size=64).state_dict()
    torch.save(
        {key.replace('position.weight', 'pos_embed'): value for key, value in state.items()},
        folder / 'public.pth',
    )
    (folder / 'text').write_text('no folder')


def smooth(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A picture ``(H, W, 3)`` uint8 that compresses well."""
    return cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), size[::-1])
