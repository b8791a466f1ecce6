"""Restorers for images and video, with their data, losses and metrics."""

from .datasets import ClipFolder, RestorationFolder, SIDDBlocks, SIDDMedium
from .files import denoise_path
from .inference import Denoiser
from .losses import CharbonnierLoss
from .metrics import RestorationMetric, psnr, ssim
from .restorer import RestorationPreprocessor, Restorer
from .structures import RestorationSample
from .tiling import run_clip, run_tiled
from .transforms import (
    AddGaussianNoise,
    LoadRestorationPair,
    PackRestorationInputs,
    RandomDihedral,
    RandomPatch,
    RandomTimeReversal,
)
from .uformer import SkipUformer, Uformer
from .uniformer import SkipUniFormerUNet, UniFormerUNet

__all__ = [
    'AddGaussianNoise',
    'CharbonnierLoss',
    'ClipFolder',
    'Denoiser',
    'LoadRestorationPair',
    'PackRestorationInputs',
    'RandomDihedral',
    'RandomPatch',
    'RandomTimeReversal',
    'RestorationFolder',
    'RestorationMetric',
    'RestorationPreprocessor',
    'RestorationSample',
    'Restorer',
    'SIDDBlocks',
    'SIDDMedium',
    'SkipUformer',
    'SkipUniFormerUNet',
    'Uformer',
    'UniFormerUNet',
    'denoise_path',
    'psnr',
    'run_clip',
    'run_tiled',
    'ssim',
]
