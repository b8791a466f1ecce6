"""Restorers for images and video, with their data, losses and metrics."""

from .losses import CharbonnierLoss
from .metrics import RestorationMetric, psnr, ssim
from .restorer import RestorationPreprocessor, Restorer
from .structures import RestorationSample
from .tiling import run_clip, run_tiled
from .uformer import SkipUformer, Uformer
from .uniformer import SkipUniFormerUNet, UniFormerUNet

__all__ = [
    'CharbonnierLoss',
    'RestorationMetric',
    'RestorationPreprocessor',
    'RestorationSample',
    'Restorer',
    'SkipUformer',
    'SkipUniFormerUNet',
    'Uformer',
    'UniFormerUNet',
    'psnr',
    'run_clip',
    'run_tiled',
    'ssim',
]
