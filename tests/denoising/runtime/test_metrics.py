from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from helpers.goldens import load_golden, recipe
from mmeffvit.denoising import CharbonnierLoss, RestorationMetric, psnr, ssim


def _pair(sigma: float = 30, size=(40, 48), seed=0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    smooth = rng.random((size[0] // 8, size[1] // 8, 3)).repeat(8, 0).repeat(8, 1)
    clean = np.round(smooth * 255) / 255
    noisy = np.clip(np.round(clean * 255 + sigma * rng.standard_normal(clean.shape)), 0, 255)
    return noisy / 255, clean


def _gaussian_ssim_map(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """SSIM by its definition (Wang et al., 2004), 11 taps, edges repeated."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(x):
        for axis in axes:
            x = correlate1d(x, taps, axis=axis, mode='nearest')
        return x

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    cov = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return numerator / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


@pytest.mark.parametrize('name', ['small_noise', 'strong_noise'])
def test_recorded_values(name):
    gold = load_golden('skipat/golden_metrics.pt')['cases'][name]
    make, shape = recipe().make_input, (3, *gold['size'])

    def as_bytes(image: torch.Tensor) -> torch.Tensor:
        return (image.clamp(0, 1) * 255).round()

    clean = as_bytes(0.5 + 0.15 * make(shape, gold['seed'])) / 255
    noise = make(shape, gold['seed'] + 100, block=0)
    noisy = as_bytes(clean + gold['amplitude'] / 255 * noise) / 255
    loss = CharbonnierLoss()(noisy, clean)
    noisy, clean = (image.double().permute(1, 2, 0).numpy() for image in (noisy, clean))
    assert psnr(noisy, clean) == pytest.approx(gold['psnr_rgb'], abs=1e-4)
    assert ssim(noisy, clean, 'channel') == pytest.approx(gold['ssim_rgb'], abs=1e-6)
    assert ssim(noisy, clean, 'volume') == pytest.approx(
        gold['ssim_volume_own_reference'], abs=1e-6
    )
    assert loss.item() == pytest.approx(gold['charbonnier'], rel=1e-5)


def test_psnr_of_known_differences():
    clean = np.full((16, 16, 3), 0.5)
    assert psnr(clean + 0.1, clean) == pytest.approx(20)
    assert psnr(clean + 1 / 255, clean) == pytest.approx(20 * math.log10(255))
    one_channel = clean.copy()
    one_channel[..., 0] += 0.1  # all channels together, not their average
    assert psnr(one_channel, clean) == pytest.approx(20 + 10 * math.log10(3))
    assert psnr(clean, clean) == math.inf


def test_ssim_of_the_colour_volume_is_its_definition():
    noisy, clean = _pair()
    expected = _gaussian_ssim_map(noisy, clean, axes=(0, 1, 2)).mean()
    assert ssim(noisy, clean, 'volume') == pytest.approx(expected, abs=1e-12)


def test_ssim_by_channel_is_its_definition_where_the_window_fits():
    noisy, clean = _pair()
    expected = _gaussian_ssim_map(noisy, clean, axes=(0, 1))[5:-5, 5:-5].mean()
    assert ssim(noisy, clean, 'channel') == pytest.approx(expected, abs=1e-12)


def test_the_volume_flatters_noise():
    """What explains SIDD's published values: 0.71 against 0.62 at strong noise in one example."""
    noisy, clean = _pair()
    assert ssim(noisy, clean, 'volume') > ssim(noisy, clean, 'channel') + 0.02


def test_ssim_names_what_it_cannot_do():
    small = np.zeros((8, 8, 3))
    with pytest.raises(ValueError, match="ssim='volume'"):
        ssim(small, small, 'channel')
    with pytest.raises(ValueError, match="'luma'"):
        ssim(small, small, 'luma')


def _sample(prediction: torch.Tensor, clean: torch.Tensor) -> dict:
    return dict(pred_img=prediction, gt_img=clean)


def test_a_clip_counts_once():
    clean = torch.full((3, 2, 12, 12), 0.5)
    clip = clean.clone()
    clip[:, 0] += 0.1
    clip[:, 1] += 0.01
    image = torch.full((3, 12, 12), 0.5)
    metric = RestorationMetric(measures=['psnr', 'noisy_psnr'])
    metric.process(
        dict(inputs=[clean + 0.1, image + 0.1]),
        [_sample(clip, clean), _sample(image + 0.001, image)],
    )
    result = metric.compute_metrics(metric.results)
    assert result['psnr'] == pytest.approx((30 + 60) / 2, abs=1e-3)
    assert result['noisy_psnr'] == pytest.approx(20, abs=1e-3)


def test_rounding_rule():
    clean = torch.full((3, 12, 12), 100 / 255)
    prediction = clean + 0.3 / 255
    exact, rounded = RestorationMetric(['psnr']), RestorationMetric(['psnr'], round_bits=8)
    for metric in (exact, rounded):
        metric.process(dict(inputs=[clean]), [_sample(prediction, clean)])
    assert exact.results[0]['psnr'] == pytest.approx(20 * math.log10(255 / 0.3), abs=1e-2)
    assert rounded.results[0]['psnr'] > 130


def test_unknown_measure_is_named():
    with pytest.raises(ValueError, match='lpips'):
        RestorationMetric(measures=['lpips'])


def test_charbonnier():
    loss = CharbonnierLoss(eps=1e-3)
    a = torch.zeros(2, 3, 4, 4)
    assert loss(a + 0.1, a).item() == pytest.approx(math.sqrt(0.010001))
    half = loss((a + 0.1).half(), a.half())
    assert half.dtype == torch.float32 and half.item() == pytest.approx(0.1, rel=1e-2)
