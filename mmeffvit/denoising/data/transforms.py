"""Transforms of noisy and clean images ``(H, W, 3)`` or clips ``(T, H, W, 3)`` alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ...registry import TRANSFORMS
from ...utils.images import read_image
from .structures import RestorationSample, to_unit

KEYS = ('noisy', 'clean')


def _each(results: dict, function: Callable[[np.ndarray], np.ndarray]) -> dict:
    """Apply a function to whichever of the two images there is."""
    return {**results, **{key: function(results[key]) for key in KEYS if key in results}}


@TRANSFORMS.register_module()
class LoadRestorationPair:
    """Read ``clean`` and ``noisy`` from ``clean_path`` and ``noisy_path``, in RGB.

    A list of paths becomes a clip. 8- and 16-bit files keep their type until the noise is added or
    the sample is packed.
    """

    def __call__(self, results: dict) -> dict:
        """Read the images whose path is given."""
        read = {key: _read(results[f'{key}_path']) for key in KEYS if f'{key}_path' in results}
        shapes = {array.shape for array in read.values()}
        if len(shapes) > 1:
            raise ValueError(
                f'{results["noisy_path"]} and {results["clean_path"]} differ in size: '
                f'{sorted(shapes)}.'
            )
        return {**results, **read}


def _read(path: str | Sequence[str]) -> np.ndarray:
    if isinstance(path, str):
        return read_image(path)
    return np.stack([read_image(frame) for frame in path])


@TRANSFORMS.register_module()
class RandomPatch:
    """Crop the same random square of noisy and clean; smaller images are padded by symmetry.

    Args:
        size (int): Side in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, results: dict) -> dict:
        """Crop."""
        H, W = results['clean'].shape[-3:-1]
        top = np.random.randint(max(0, H - self.size) + 1)
        left = np.random.randint(max(0, W - self.size) + 1)

        def cut(image: np.ndarray) -> np.ndarray:
            image = image[..., top : top + self.size, left : left + self.size, :]
            missing = [(0, self.size - side) for side in image.shape[-3:-1]]
            if any(after for _, after in missing):
                before = [(0, 0)] * (image.ndim - 3)
                image = np.pad(image, [*before, *missing, (0, 0)], mode='symmetric')
            return image

        return _each(results, cut)


@TRANSFORMS.register_module()
class RandomDihedral:
    """Apply a random symmetry of the square (eight, uniformly): a rotation, then a flip or none."""

    def __call__(self, results: dict) -> dict:
        """Rotate and flip."""
        turns, flip = np.random.randint(4), np.random.randint(2)

        def move(image: np.ndarray) -> np.ndarray:
            image = np.rot90(image, turns, axes=(-3, -2))
            return np.flip(image, axis=-3) if flip else image

        return _each(results, move)


@TRANSFORMS.register_module()
class RandomTimeReversal:
    """Reverse the frames of a clip at random.

    Args:
        prob (float): Probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict) -> dict:
        """Reverse or not."""
        if np.random.random() >= self.prob:
            return results
        return _each(results, lambda clip: clip[::-1])


@TRANSFORMS.register_module()
class AddGaussianNoise:
    """Make ``noisy`` from ``clean`` by white Gaussian noise, not clipped.

    Args:
        sigma (float): Standard deviation in grey levels of 255.
        seed (int, optional): Give each sample of the data set its own noise, the same in every
            epoch and process, as evaluation needs; None draws anew each time.

    Raises:
        ValueError: If ``sigma`` is negative.
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        if sigma < 0:
            raise ValueError(f'sigma={sigma} must not be negative.')
        self.sigma = sigma
        self.seed = seed

    def __call__(self, results: dict) -> dict:
        """Add noise; with a seed ``sample_idx`` must be there, as mmengine's data sets set it."""
        clean = to_unit(results['clean'])
        seed = None if self.seed is None else [self.seed, results['sample_idx']]
        # Drawn by mmengine's seeded generator, so that a training run can be repeated.
        rng = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
        return {**results, 'clean': clean, 'noisy': clean + np.float32(self.sigma / 255) * noise}


@TRANSFORMS.register_module()
class PackRestorationInputs:
    """Pack the model's input and its sample, channels first, float32 in [0, 1].

    Args:
        meta_keys (Sequence[str]): Keys to keep in the sample's metainfo, where present.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'noisy_path',
            'clean_path',
            'clip',
            'frame',
            'image',
            'block',
            'sample_idx',
        ),
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def __call__(self, results: dict) -> dict:
        """Pack ``noisy`` as ``inputs`` and ``clean`` as ``gt_img``."""
        sample = RestorationSample(
            metainfo={key: results[key] for key in self.meta_keys if key in results}
        )
        if 'clean' in results:
            sample.gt_img = _to_tensor(results['clean'])
        return dict(inputs=_to_tensor(results['noisy']), data_samples=sample)


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(to_unit(image), -1, 0)))
