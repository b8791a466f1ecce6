"""Scenes of the shapes dataset: textured shapes over textured backgrounds, one seed per scene.

Everything here is our choice; nothing is published. The class of a shape is carried by its outline
alone: colour, texture, size, rotation and place are drawn independently of it.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from .polygons import mask_to_polygons, signed_area

CLASSES = ('circle', 'rectangle', 'star', 'triangle')  # sorted, as class folders are
PALETTE = ((230, 60, 60), (60, 160, 60), (240, 190, 40), (60, 90, 230))
"""RGB colours of the classes in drawings, in the order of ``CLASSES``."""

RADII = (0.12, 0.28)
"""Least and greatest radius of an object in units of the shorter side of the image."""

TILT = 0.45
"""Objects stand upright within this angle, in radians."""

_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Args:
        image (np.ndarray): BGR ``uint8`` image of shape ``(H, W, 3)``.
        labels (tuple[int]): Class index of every instance, an index into ``CLASSES``.
        masks (tuple[np.ndarray]): Visible pixels of every instance, ``bool`` of shape ``(H, W)``;
            the masks are disjoint.
    """

    image: np.ndarray
    labels: tuple[int, ...]
    masks: tuple[np.ndarray, ...]

    def label_map(self) -> np.ndarray:
        """Semantic label map ``(H, W)``: 0 is background, class ``i`` is ``i + 1``."""
        labels = np.zeros(self.image.shape[:2], np.uint8)
        for label, mask in zip(self.labels, self.masks):
            labels[mask] = label + 1
        return labels


@dataclass(frozen=True)
class Sprite:
    """A textured shape that can be drawn at any place and angle.

    Args:
        label (int): Index into ``CLASSES``.
        outline (np.ndarray): ``(K, 2)`` vertices in units of the radius, around the origin.
        texture (np.ndarray): ``(S, S, 3)`` float32 BGR patch centred on the origin.
        radius (float): Radius of the enclosing circle in pixels.
        centre (tuple[float, float]): ``(x, y)`` in pixels at time 0.
        angle (float): Rotation in radians at time 0.
        velocity (tuple[float, float]): Pixels per frame along x and y.
        spin (float): Radians per frame.
    """

    label: int
    outline: np.ndarray
    texture: np.ndarray
    radius: float
    centre: tuple[float, float]
    angle: float
    velocity: tuple[float, float] = (0.0, 0.0)
    spin: float = 0.0

    def coverage(self, size: tuple[int, int], time: float = 0.0) -> np.ndarray:
        """Anti-aliased coverage ``(H, W)`` in [0, 1] at ``time`` frames."""
        (x, y), angle = self._pose(time)
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, sin], [-sin, cos]])
        vertices = (self.radius * self.outline) @ rotation + (x, y)
        points = np.round(vertices * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        canvas = np.zeros(size, np.uint8)
        cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        return canvas.astype(np.float32) / 255

    def paint(self, size: tuple[int, int], time: float = 0.0) -> np.ndarray:
        """Texture moved to the pose at ``time`` frames, ``(H, W, 3)`` float32."""
        (x, y), angle = self._pose(time)
        cos, sin = np.cos(angle), np.sin(angle)
        middle = (self.texture.shape[0] - 1) / 2
        matrix = np.array(
            [
                [cos, -sin, x - middle * (cos - sin)],
                [sin, cos, y - middle * (sin + cos)],
            ]
        )
        return cv2.warpAffine(
            self.texture,
            matrix,
            size[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )

    def _pose(self, time: float) -> tuple[tuple[float, float], float]:
        x = self.centre[0] + self.velocity[0] * time
        y = self.centre[1] + self.velocity[1] * time
        return (x, y), self.angle + self.spin * time


def _colour(rng: np.random.Generator, chroma: float) -> np.ndarray:
    """Random BGR colour; ``chroma`` 0 is grey, 1 is any colour."""
    grey = rng.uniform(40, 215)
    return np.float32(grey) + chroma * (rng.uniform(25, 230, 3).astype(np.float32) - grey)


def fractal_noise(
    rng: np.random.Generator, size: tuple[int, int], cells: int, octaves: int, channels: int = 1
) -> np.ndarray:
    """Sum of ``octaves`` smooth noises, each twice as fine and half as strong as the one before.

    Args:
        rng (np.random.Generator): Source of randomness.
        size (tuple[int, int]): ``(H, W)``.
        cells (int): Grid cells along each side in the coarsest octave.
        octaves (int): Number of octaves.
        channels (int): Channels of the result.

    Returns:
        np.ndarray: ``(H, W, channels)`` float32, mostly within [-1, 1].
    """
    height, width = size
    noise = np.zeros((height, width, channels), np.float32)
    total = 0.0
    for octave in range(octaves):
        cells_here = cells << octave
        grid = rng.uniform(-1, 1, (cells_here + 2, cells_here + 2, channels)).astype(np.float32)
        weight = 0.5**octave
        fine = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        noise += weight * fine.reshape(noise.shape)
        total += weight
    return noise / total


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 14)
    wave = np.sin((np.cos(angle) * xs + np.sin(angle) * ys) * (2 * np.pi / period))
    return wave[..., None]


def _texture(rng: np.random.Generator, size: tuple[int, int], colour: np.ndarray) -> np.ndarray:
    texture = np.broadcast_to(colour, (*size, 3)).astype(np.float32)
    texture += rng.uniform(5, 18) * fractal_noise(rng, size, int(rng.integers(2, 5)), 3, 3)
    if rng.random() < 0.3:
        texture += rng.uniform(6, 16) * _stripes(rng, size)
    return texture


def _clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """Draw what is no object: strokes, open curves and soft irregular blobs."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 7)):
        steps = rng.normal(0, 0.16, (int(rng.integers(3, 7)), 2)).cumsum(0)
        points = (steps + rng.random(2)) * (width, height)
        colour = tuple(float(c) for c in _colour(rng, 0.7))
        layer = image.copy()
        curve = np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        thickness = int(rng.integers(1, 4))
        cv2.polylines(layer, [curve], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        strength = rng.uniform(0.2, 0.6)
        image += strength * (layer - image)
    for _ in range(rng.integers(1, 4)):
        blob = fractal_noise(rng, (height, width), int(rng.integers(2, 5)), 2)
        soft = np.clip((blob - rng.uniform(0.35, 0.55)) * 6, 0, 1)
        image += 0.5 * soft * (_colour(rng, 0.6) - image)


def draw_background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A textured background without objects, ``(H, W, 3)`` float32 BGR in [0, 255]."""
    height, width = size
    ys, xs = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * xs + np.sin(angle) * ys)[..., None]
    start, end = _colour(rng, 0.4), _colour(rng, 0.4)
    image = start + (end - start) * ramp
    image += rng.uniform(10, 35) * fractal_noise(rng, size, int(rng.integers(2, 6)), 5, 3)
    image = np.ascontiguousarray(np.clip(image, 0, 255), np.float32)
    _clutter(rng, image)
    return image


def _polar(angles: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], 1) * np.reshape(radii, (-1, 1))


def draw_outline(rng: np.random.Generator, label: int) -> np.ndarray:
    """Random ``(K, 2)`` outline of class ``label`` inside the unit circle."""
    name = CLASSES[label]
    if name == 'circle':
        return _polar(np.linspace(0, 2 * np.pi, 48, endpoint=False), 1.0)
    if name == 'rectangle':
        half = np.arctan(rng.uniform(0.5, 1.0))
        return _polar(np.array([half, np.pi - half, np.pi + half, -half]), 1.0)
    if name == 'triangle':
        return _polar(np.arange(3) * (2 * np.pi / 3) - np.pi / 2 + rng.uniform(-0.25, 0.25, 3), 1.0)
    inner = rng.uniform(0.4, 0.5)
    return _polar(np.arange(10) * (np.pi / 5) - np.pi / 2, np.tile([1.0, inner], 5))


def draw_sprite(
    rng: np.random.Generator,
    background: np.ndarray,
    radius: float,
    label: int,
    margin: float = 0.6,
) -> Sprite:
    """A random sprite of class ``label`` for a place on ``background``.

    Args:
        rng (np.random.Generator): Source of randomness.
        background (np.ndarray): ``(H, W, 3)`` float32 image the sprite must stand out from.
        radius (float): Radius in pixels.
        label (int): Index into ``CLASSES``.
        margin (float): Least distance of the centre from the border, in radii.
    """
    height, width = background.shape[:2]
    room = min(margin * radius, height / 2, width / 2)
    x, y = rng.uniform(room, width - room), rng.uniform(room, height - room)
    reach = max(int(radius), 1)
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    around = background[top : int(y) + reach, left : int(x) + reach].mean((0, 1))
    colour = _colour(rng, 0.8)
    while np.abs(colour - around).max() < 70:
        colour = _colour(rng, 0.8)
    side = 2 * int(np.ceil(radius)) + 3
    return Sprite(
        label=label,
        outline=draw_outline(rng, label),
        texture=_texture(rng, (side, side), colour),
        radius=radius,
        centre=(x, y),
        angle=rng.uniform(-TILT, TILT),
    )


def composite(
    background: np.ndarray, sprites: list[Sprite], time: float = 0.0
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Paint ``sprites`` over ``background``, the last one on top.

    Returns:
        tuple: The image ``(H, W, 3)`` float32 and the visible mask of every sprite, ``(H, W)``
        bool.
    """
    image = background.copy()
    size = image.shape[:2]
    masks: list[np.ndarray] = []
    for sprite in sprites:
        cover = sprite.coverage(size, time)
        solid = cover >= 0.5
        masks = [mask & ~solid for mask in masks] + [solid]
        shadow = cv2.GaussianBlur(np.roll(cover, (2, 2), (0, 1)), (0, 0), 2)
        image *= (1 - 0.35 * shadow)[..., None]
        image += cover[..., None] * (sprite.paint(size, time) - image)
    return image, masks


def develop(rng: np.random.Generator, image: np.ndarray, noise: float | None = None) -> np.ndarray:
    """What a camera adds: uneven light, slight blur and sensor noise.

    Args:
        rng (np.random.Generator): Source of randomness.
        image (np.ndarray): ``(H, W, 3)`` float32.
        noise (float, optional): Standard deviation of the noise in grey levels; drawn from
            [0, 6) if None.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8.
    """
    light = 1 + rng.uniform(0.05, 0.3) * fractal_noise(rng, image.shape[:2], 1, 2)
    image = image * light
    blur = rng.uniform(0, 0.9)
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    sigma = rng.uniform(0, 6) if noise is None else noise
    if sigma:
        image = image + sigma * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _are_visible(masks: list[np.ndarray], areas: list[int]) -> bool:
    """Whether every object shows 60 % of its pixels, 30 at least, and no hole."""
    for mask, area in zip(masks, areas):
        visible = int(mask.sum())
        if visible < max(0.6 * area, 30):
            return False
        if visible < area and any(signed_area(outline) < 0 for outline in mask_to_polygons(mask)):
            return False
    return True


def _place_sprites(
    rng: np.random.Generator,
    background: np.ndarray,
    max_objects: int,
    radii: tuple[float, float],
    label: int | None,
) -> list[Sprite]:
    size = background.shape[:2]
    sprites: list[Sprite] = []
    masks: list[np.ndarray] = []
    areas: list[int] = []
    for _ in range(rng.integers((max_objects + 1) // 2, max_objects + 1)):
        for _attempt in range(8):
            radius = min(size) * rng.uniform(*radii)
            kind = int(rng.integers(len(CLASSES))) if label is None else label
            sprite = draw_sprite(rng, background, radius, kind)
            solid = sprite.coverage(size) >= 0.5
            shown = [mask & ~solid for mask in masks] + [solid]
            if _are_visible(shown, [*areas, int(solid.sum())]):
                sprites.append(sprite)
                masks, areas = shown, [*areas, int(solid.sum())]
                break
    return sprites


def draw_scene(
    rng: np.random.Generator,
    size: tuple[int, int],
    max_objects: int = 1,
    radii: tuple[float, float] = RADII,
    label: int | None = None,
    noise: float | None = None,
) -> Scene:
    """Draw a scene of overlapping shapes, of which each stays visible and free of holes.

    Args:
        rng (np.random.Generator): Source of randomness.
        size (tuple[int, int]): ``(H, W)`` in pixels.
        max_objects (int): Most objects; their number is drawn from half of this upwards.
        radii (tuple[float, float]): Least and greatest radius in units of the shorter side.
        label (int, optional): Class of all objects, an index into ``CLASSES``; random if None.
        noise (float, optional): Sensor noise in grey levels; random if None.
    """
    background = draw_background(rng, size)
    sprites = _place_sprites(rng, background, max_objects, radii, label)
    image, masks = composite(background, sprites)
    labels = tuple(sprite.label for sprite in sprites)
    return Scene(develop(rng, image, noise), labels, tuple(masks))


def draw_clip(
    rng: np.random.Generator, size: tuple[int, int], num_frames: int, max_objects: int = 1
) -> list[np.ndarray]:
    """Draw a noise-free clip: shapes that drift and turn over a background that stands still."""
    background = draw_background(rng, size)
    sprites = [
        replace(sprite, velocity=tuple(rng.uniform(-3, 3, 2)), spin=rng.uniform(-0.1, 0.1))
        for sprite in _place_sprites(rng, background, max_objects, RADII, None)
    ]
    state = rng.bit_generator.state
    frames = []
    for time in range(num_frames):
        # The camera is the same in every frame.
        rng.bit_generator.state = state
        frames.append(develop(rng, composite(background, sprites, time)[0], noise=0))
    return frames
