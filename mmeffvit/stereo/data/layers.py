"""Generated rectified pairs of textured layers, with exact disparity and occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from ...registry import DATASETS

#: Side of the textures, which are repeated.
TEXTURE = 256
NUM_TEXTURES = 48
#: A layer hides another from this difference of disparity.
LEAST_STEP = 0.25


@DATASETS.register_module()
class LayeredStereo(BaseDataset):
    """Scenes of a slanted background and ellipses and boxes in front of it.

    The disparity of a layer is linear in the left image; nearer layers hide others. Both
    disparities and both masks of occlusion are exact. The right image differs in gain and bias,
    and both have noise. The same seed and index give the same scene.

    Args:
        num_pairs (int): Length of the dataset.
        size (tuple[int, int]): ``(height, width)``.
        max_disparity (float): Of the nearest layer, in pixels.
        seed (int): Seed of all scenes.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        num_pairs: int,
        size: tuple[int, int] = (96, 160),
        max_disparity: float = 24.0,
        seed: int = 0,
        **kwargs,
    ) -> None:
        self.num_pairs = num_pairs
        self.size = size[0], size[1]
        self.max_disparity = max_disparity
        self.seed = seed
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List the numbers of the scenes."""
        return [dict(pair=index) for index in range(self.num_pairs)]

    def get_data_info(self, idx: int) -> dict:
        """Images, disparities and masks of a scene.

        Returns:
            dict: ``left`` and ``right``, RGB uint8 ``(H, W, 3)``; ``disparity``,
            ``disparity_right``, float32 ``(H, W)``; ``occlusion``, ``occlusion_right``, boolean.
        """
        info = super().get_data_info(idx)
        random = np.random.default_rng((self.seed, info['pair']))
        layers = draw_layers(self.size, self.max_disparity, random)
        return {**info, **render(layers, self.size, random)}


@dataclass(frozen=True)
class Layer:
    """A textured plane seen through a shape.

    Attributes:
        plane (tuple[float, float, float]): Disparity ``a + b x + c y`` at the left pixel (x, y).
        shape (str): ``'all'``, ``'ellipse'`` or ``'box'``.
        centre (tuple[float, float]): Of the shape, ``(x, y)``.
        radii (tuple[float, float]): Half axes of the ellipse, half sides of the box.
        angle (float): Of the shape, in radians.
        texture (np.ndarray): ``(TEXTURE, TEXTURE, 3)`` float32.
    """

    plane: tuple[float, float, float]
    shape: str
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    texture: np.ndarray

    def disparity(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Disparity at left pixels."""
        a, b, c = self.plane
        return a + b * x + c * y

    def from_right(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Column in the left image of right pixels."""
        a, b, c = self.plane
        return (x + a + c * y) / (1 - b)

    def covers(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether left pixels are inside of the shape."""
        if self.shape == 'all':
            return np.ones(np.broadcast_shapes(x.shape, y.shape), bool)
        x, y = x - self.centre[0], y - self.centre[1]
        u = (np.cos(self.angle) * x + np.sin(self.angle) * y) / self.radii[0]
        v = (np.cos(self.angle) * y - np.sin(self.angle) * x) / self.radii[1]
        if self.shape == 'box':
            return (np.abs(u) <= 1) & (np.abs(v) <= 1)
        return u * u + v * v <= 1

    def colours(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Texture at left pixels, ``(H, W, 3)``."""
        x, y = (np.broadcast_to(p, np.broadcast_shapes(x.shape, y.shape)) for p in (x, y))
        columns, rows = ((p % TEXTURE).astype(np.float32) for p in (x, y))
        return cv2.remap(self.texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


@lru_cache(maxsize=1)
def texture_bank() -> np.ndarray:
    """Colour noise ``(NUM_TEXTURES, TEXTURE, TEXTURE, 3)`` float32 that repeats without seams."""
    random = np.random.default_rng(0)
    bank = np.zeros((NUM_TEXTURES, TEXTURE, TEXTURE, 3), np.float32)
    for texture in bank:
        for cells, weight in ((8, 0.5), (16, 0.5), (32, 0.5), (64, 0.5), (128, 0.35)):
            noise = random.standard_normal((cells, cells, 3), dtype=np.float32)
            wrapped = np.pad(noise, ((1, 1), (1, 1), (0, 0)), mode='wrap')
            step = TEXTURE // cells
            large = cv2.resize(wrapped, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
            texture += weight * large[step:-step, step:-step]
        texture *= 0.17 / texture.std()
        texture += random.uniform(0.25, 0.75, 3).astype(np.float32)
    return bank


def draw_layers(
    size: tuple[int, int], max_disparity: float, random: np.random.Generator
) -> list[Layer]:
    """Draw the background and three to six layers in front of it."""
    H, W = size
    middle = np.array([W / 2, H / 2])

    def texture() -> np.ndarray:
        chosen = texture_bank()[random.integers(NUM_TEXTURES)]
        chosen = np.roll(chosen, tuple(random.integers(TEXTURE, size=2)), (0, 1))
        if random.random() < 0.5:
            chosen = chosen[:, ::-1]
        return np.ascontiguousarray(chosen[..., random.permutation(3)])

    def plane(disparity: float, centre: np.ndarray, slope: float) -> tuple[float, float, float]:
        b, c = random.uniform(-slope, slope, 2)
        return float(disparity - b * centre[0] - c * centre[1]), float(b), float(c)

    far = max_disparity / 12, max_disparity / 2.4
    margin = 0.01 * W + 0.01 * H
    behind = random.uniform(far[0] + margin, max(far[0] + margin, far[1] - margin))
    layers = [Layer(plane(behind, middle, 0.02), 'all', (0, 0), (1, 1), 0.0, texture())]
    disparities = np.sort(random.uniform(behind + 1.5, max_disparity, random.integers(3, 7)))
    for disparity in disparities:
        centre = random.uniform([0, 0], [W, H])
        radii = random.uniform(0.15, 0.38, 2) * min(H, W)
        shape = 'ellipse' if random.random() < 0.5 else 'box'
        slope = 0.03 if random.random() < 0.5 else 0.0
        layers.append(
            Layer(
                plane(disparity, centre, slope),
                shape,
                (float(centre[0]), float(centre[1])),
                (float(radii[0]), float(radii[1])),
                float(random.uniform(0, np.pi)),
                texture(),
            )
        )
    return layers


def render(
    layers: list[Layer], size: tuple[int, int], random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Render both images of a scene; see :meth:`LayeredStereo.get_data_info`."""
    H, W = size
    x, y = np.arange(W, dtype=np.float64)[None], np.arange(H, dtype=np.float64)[:, None]
    left, disparity = _nearest(layers, [x] * len(layers), y, size)
    sources = [layer.from_right(x, y) for layer in layers]
    right, disparity_right = _nearest(layers, sources, y, size)

    match = x - disparity
    occlusion = match < 0
    origin = x + disparity_right
    occlusion_right = origin > W - 1
    for layer in layers:
        source = layer.from_right(match, y)
        hides = layer.disparity(source, y) > disparity + LEAST_STEP
        occlusion |= hides & layer.covers(source, y)
        hides = layer.disparity(origin, y) > disparity_right + LEAST_STEP
        occlusion_right |= hides & layer.covers(origin, y)

    right = right * np.exp(random.uniform(-0.15, 0.15)) + random.uniform(-0.03, 0.03)
    images = {}
    for name, image in (('left', left), ('right', right)):
        noisy = image + 0.01 * random.standard_normal(image.shape)
        images[name] = np.rint(255 * noisy.clip(0, 1)).astype(np.uint8)
    return dict(
        **images,
        disparity=disparity.astype(np.float32),
        disparity_right=disparity_right.astype(np.float32),
        occlusion=occlusion,
        occlusion_right=occlusion_right,
    )


def _nearest(
    layers: list[Layer], columns: list[np.ndarray], y: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and disparity of the layer with the largest disparity at each pixel."""
    best = np.full(size, -np.inf)
    image = np.zeros((*size, 3), np.float32)
    for layer, x in zip(layers, columns):
        disparity = np.broadcast_to(layer.disparity(x, y), size)
        wins = layer.covers(x, y) & (disparity > best)
        best = np.where(wins, disparity, best)
        image[wins] = layer.colours(x, y)[wins]
    return image, best
