from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from ...registry import TRANSFORMS
from ...utils.images import read_image
from .occlusion import occlusion_of
from .structures import StereoSample

#: Arrays of the left and of the right image, in this order.
PAIRED = (
    ('left', 'right'),
    ('disparity', 'disparity_right'),
    ('occlusion', 'occlusion_right'),
)
KEYS = tuple(key for pair in PAIRED for key in pair)
META = ('left_path', 'right_path')


def read_disparity(path: str | Path) -> np.ndarray:
    """Read a disparity map: PFM, or 16-bit PNG in 1/256 pixel (KITTI).

    Returns:
        np.ndarray: ``(H, W)`` float32; 0 where it is not known, negative or infinite.

    Raises:
        ValueError: If the file is none of these.
    """
    path = Path(path)
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if found is None:
        raise ValueError(f'{path} cannot be read as a disparity map; it must be PFM or PNG.')
    found = found if found.ndim == 2 else found[..., 0]
    if path.suffix.lower() == '.png':
        if found.dtype != np.uint16:
            raise ValueError(f'{path} has {found.dtype} values; disparity PNGs have 16 bits.')
        found = found.astype(np.float32) / 256
    # The maps of Scene Flow's right images, and some others, hold negative values.
    found = np.where(np.isfinite(found), found, 0)
    return found.clip(0).astype(np.float32)


def write_disparity(path: str | Path, disparity: np.ndarray) -> None:
    """Write ``(H, W)`` as PFM, or as 16-bit PNG in 1/256 pixel, by the suffix.

    Raises:
        ValueError: If the suffix is none of these.
    """
    path = Path(path)
    if path.suffix.lower() == '.png':
        array = np.rint(disparity.clip(0, 255.99) * 256).astype(np.uint16)
    elif path.suffix.lower() == '.pfm':
        array = np.ascontiguousarray(disparity, np.float32)
    else:
        raise ValueError(f'{path} must end in .pfm or .png.')
    if not cv2.imwrite(str(path), array):
        raise OSError(f'{path} cannot be written')


@TRANSFORMS.register_module()
class LoadStereo:
    """Read images, disparities and masks from their paths.

    ``left_path`` and ``right_path``; perhaps ``disparity_path``, ``disparity_right_path``,
    ``occlusion_path`` and ``occlusion_right_path`` (above ``occlusion_threshold`` is occluded).
    Where there is no mask, it is computed from the disparities.

    Args:
        occlusion_values (Sequence[int], optional): Grey values that mean occluded; any but 0 if not
            given.
    """

    def __init__(self, occlusion_values: tuple[int, ...] | None = None) -> None:
        self.occlusion_values = occlusion_values

    def __call__(self, results: dict) -> dict:
        """Read what there is."""
        results = dict(results)
        for key in ('left', 'right'):
            results[key] = read_image(results[f'{key}_path'])
        for key in ('disparity', 'disparity_right'):
            if results.get(f'{key}_path'):
                disparity = read_disparity(results[f'{key}_path'])
                results[key] = np.where(disparity < disparity.shape[1], disparity, 0)
        for key in ('occlusion', 'occlusion_right'):
            if results.get(f'{key}_path'):
                grey = read_image(results[f'{key}_path'], keep=True)
                grey = grey if grey.ndim == 2 else grey[..., 0]
                values = self.occlusion_values
                results[key] = grey > 0 if values is None else np.isin(grey, values)
        if 'disparity' in results and 'occlusion' not in results:
            masks = occlusion_of(results['disparity'], results.get('disparity_right'))
            known = results['disparity'] > 0
            results['occlusion'] = masks[0] & known
            results['occlusion_right'] = masks[1]
        return results


@TRANSFORMS.register_module()
class RandomSwapMirror:
    """Swap the images and mirror both, so that the right one becomes the left one.

    Without the right disparity nothing is done.

    Args:
        prob (float): Probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict) -> dict:
        """Swap and mirror."""
        if 'disparity_right' not in results or np.random.random() >= self.prob:
            return results
        results = dict(results)
        for left, right in PAIRED:
            if left in results and right in results:
                pair = results[right][:, ::-1], results[left][:, ::-1]
                results[left], results[right] = (np.ascontiguousarray(x) for x in pair)
        return results


@TRANSFORMS.register_module()
class RandomStereoCrop:
    """Crop both images at the same random place.

    Args:
        size (tuple[int, int]): ``(height, width)``; smaller images stay as they are.
        largest (bool): Draw the size too, from ``size`` up to that of the image, as STTR does.
    """

    def __init__(self, size: tuple[int, int], largest: bool = False) -> None:
        self.size = tuple(size)
        self.largest = largest

    def __call__(self, results: dict) -> dict:
        """Crop."""
        shape = results['left'].shape[:2]
        size = [min(wanted, side) for wanted, side in zip(self.size, shape)]
        if self.largest:
            size = [np.random.randint(least, side + 1) for least, side in zip(size, shape)]
        top, left = (np.random.randint(side - part + 1) for side, part in zip(shape, size))
        rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
        cropped = {key: results[key][rows, columns] for key in KEYS if key in results}
        results = {**results, **cropped}
        # What the crop cuts off the other image is not seen by it.
        width = np.arange(size[1])
        if 'disparity' in results and 'occlusion' in results:
            outside = (width - results['disparity'] < 0) & (results['disparity'] > 0)
            results['occlusion'] = results['occlusion'] | outside
        if 'disparity_right' in results and 'occlusion_right' in results:
            outside = width + results['disparity_right'] > size[1] - 1
            results['occlusion_right'] = results['occlusion_right'] | outside
        return results


@TRANSFORMS.register_module()
class StereoPhotometric:
    """Change colours, on some pairs differently for both images, and misalign the right one.

    Args:
        shift (float): Largest shift of a colour, in grey levels.
        gain (float): Largest relative change of brightness and contrast.
        asymmetric (float): Probability that both images change differently.
        vertical (float): Largest vertical shift of the right image, in pixels.
        rotation (float): Its largest rotation, in degrees.

    Source: the augmentation of STTR's public code, without its noise.
    """

    def __init__(
        self,
        shift: float = 20.0,
        gain: float = 0.1,
        asymmetric: float = 0.5,
        vertical: float = 1.5,
        rotation: float = 0.2,
    ) -> None:
        self.shift = shift
        self.gain = gain
        self.asymmetric = asymmetric
        self.vertical = vertical
        self.rotation = rotation

    def __call__(self, results: dict) -> dict:
        """Change both images."""
        first = self._draw()
        second = self._draw() if np.random.random() < self.asymmetric else first
        left, right = (
            np.rint((gain * results[key] + shift).clip(0, 255)).astype(np.uint8)
            for key, (gain, shift) in (('left', first), ('right', second))
        )
        H, W = right.shape[:2]
        angle = np.random.uniform(-self.rotation, self.rotation)
        matrix = cv2.getRotationMatrix2D((W / 2, H / 2), angle, 1)
        matrix[1, 2] += np.random.uniform(-self.vertical, self.vertical)
        if self.vertical or self.rotation:
            right = cv2.warpAffine(right, matrix, (W, H), borderMode=cv2.BORDER_REFLECT_101)
        return {**results, 'left': left, 'right': right}

    def _draw(self) -> tuple[float, np.ndarray]:
        gain = 1 + np.random.uniform(-self.gain, self.gain)
        return gain, np.random.uniform(-self.shift, self.shift, 3)


@TRANSFORMS.register_module()
class PackStereo:
    """Make tensors of the images, and a :class:`StereoSample` of the ground truth."""

    def __call__(self, results: dict) -> dict:
        """Pack.

        Returns:
            dict: ``inputs`` with ``left`` and ``right``, uint8 ``(3, H, W)``, and ``data_samples``.
        """
        sample = StereoSample(metainfo={key: results[key] for key in META if key in results})
        if 'disparity' in results:
            shape = results['disparity'].shape
            sample.gt_disparity = torch.from_numpy(results['disparity'].astype(np.float32))
            for key in ('occlusion', 'occlusion_right'):
                mask = results.get(key, np.zeros(shape, bool))
                sample.set_data({f'gt_{key}': torch.from_numpy(np.ascontiguousarray(mask))})
        inputs = {
            key: torch.from_numpy(np.ascontiguousarray(results[key].transpose(2, 0, 1)))
            for key in ('left', 'right')
        }
        return dict(inputs=inputs, data_samples=sample)
