"""Training, evaluating and applying a denoiser: model, loss, metrics, tiled inference, files."""

from .denoiser import Denoiser
from .files import denoise_path
from .losses import CharbonnierLoss
from .metrics import RestorationMetric, psnr, ssim
from .restorer import RestorationPreprocessor, Restorer
from .tiling import run_clip, run_tiled

__all__ = [
    'CharbonnierLoss',
    'Denoiser',
    'RestorationMetric',
    'RestorationPreprocessor',
    'Restorer',
    'denoise_path',
    'psnr',
    'run_clip',
    'run_tiled',
    'ssim',
]
