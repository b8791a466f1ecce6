"""PSNR and SSIM as the denoising benchmarks compute them, by scikit-image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ...registry import METRICS

SSIM_KINDS = ('volume', 'channel')
NAMES = ('psnr', 'ssim', 'noisy_psnr')


def psnr(image: np.ndarray, target: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all channels together, peak 1.

    Args:
        image (np.ndarray): ``(H, W, 3)`` in [0, 1].
        target (np.ndarray): Of the same shape.

    Returns:
        float: Infinite where the images are equal.
    """
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(image, target):
        return float('inf')
    return float(peak_signal_noise_ratio(_double(target), _double(image), data_range=1.0))


def ssim(image: np.ndarray, target: np.ndarray, kind: str = 'volume') -> float:
    """Structural similarity with a Gaussian window, sigma 1.5, 11 taps, peak 1.

    Args:
        image (np.ndarray): ``(H, W, 3)`` in [0, 1].
        target (np.ndarray): Of the same shape.
        kind (str): ``'volume'`` filters along the channels too, edges repeated, and averages the
            whole map: what MATLAB's ``ssim`` does to a colour image and what SIDD results report.
            ``'channel'`` averages the channels' maps where the window fits (Wang et al., 2004).

    Raises:
        ValueError: If ``kind`` is neither, or the image is smaller than the window.
    """
    from skimage.metrics import structural_similarity

    if kind not in SSIM_KINDS:
        raise ValueError(f'ssim={kind!r} must be one of {SSIM_KINDS}.')
    options: dict[str, Any] = dict(
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    image, target = _double(image), _double(target)
    if kind == 'channel':
        if min(image.shape[:2]) < 11:
            raise ValueError(
                f'An image of {image.shape[:2]} is smaller than the 11x11 window; use '
                "ssim='volume'."
            )
        return float(cast(float, structural_similarity(target, image, channel_axis=2, **options)))
    # scikit-image leaves out a border of 5; it is given one, so that the whole map remains.
    image, target = (np.pad(array, 5, mode='edge') for array in (image, target))
    return float(cast(float, structural_similarity(target, image, **options)))


@METRICS.register_module()
class RestorationMetric(BaseMetric):
    """PSNR and SSIM of predictions, averaged over the images of the data set.

    A clip counts once, with the mean over its frames, as the video denoising benchmarks have it.

    Args:
        measures (Sequence[str]): Any of ``'psnr'``, ``'ssim'`` and ``'noisy_psnr'``, the PSNR of
            the input.
        ssim (str): ``'volume'`` or ``'channel'``, see :func:`ssim`.
        round_bits (int, optional): Round predictions to this many bits first, as if they were
            saved; None compares them as they are, which is SIDD's rule and DAVIS's.
        collect_device (str): See mmengine.
        prefix (str, optional): See mmengine.

    Raises:
        ValueError: If a measure or ``ssim`` is unknown.
    """

    default_prefix = 'restoration'

    def __init__(
        self,
        measures: Sequence[str] = ('psnr', 'ssim'),
        ssim: str = 'volume',
        round_bits: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        unknown = sorted(set(measures) - set(NAMES))
        if unknown:
            raise ValueError(f'measures={unknown} are not among {NAMES}.')
        if ssim not in SSIM_KINDS:
            raise ValueError(f'ssim={ssim!r} must be one of {SSIM_KINDS}.')
        self.measures = tuple(measures)
        self.ssim = ssim
        self.round_bits = round_bits

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Compare the predictions of one batch with their ground truth."""
        for noisy, sample in zip(data_batch['inputs'], data_samples):
            targets = _frames(sample['gt_img'])
            images = [self._rounded(image) for image in _frames(sample['pred_img'])]
            result = {}
            if 'psnr' in self.measures:
                result['psnr'] = _mean(psnr, images, targets)
            if 'ssim' in self.measures:
                result['ssim'] = _mean(lambda a, b: ssim(a, b, self.ssim), images, targets)
            if 'noisy_psnr' in self.measures:
                result['noisy_psnr'] = _mean(psnr, _frames(noisy), targets)
            self.results.append(result)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Average over images, each clip counted once."""
        return {name: float(np.mean([r[name] for r in results])) for name in self.measures}

    def _rounded(self, image: np.ndarray) -> np.ndarray:
        if self.round_bits is None:
            return image
        peak = 2**self.round_bits - 1
        return np.rint(image.astype(np.float64) * peak) / peak


def _double(image: np.ndarray) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def _frames(image: Tensor) -> list[np.ndarray]:
    """Frames ``(H, W, 3)`` of an image ``(3, H, W)`` or a clip ``(3, T, H, W)``."""
    array = np.moveaxis(image.detach().cpu().numpy(), 0, -1)
    return [array] if array.ndim == 3 else list(array)


def _mean(measure, images: list[np.ndarray], targets: list[np.ndarray]) -> float:
    return float(np.mean([measure(image, target) for image, target in zip(images, targets)]))
