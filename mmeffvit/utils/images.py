"""Reading and writing 8- and 16-bit images in RGB order; truncated files are refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .atomic import atomic

#: Largest value of each integer type that images are stored in.
PEAKS = {'uint8': 255, 'uint16': 65535}
SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


def read_image(path: str | Path, keep: bool = False) -> np.ndarray:
    """Read an image.

    Args:
        path (str | Path): The file.
        keep (bool): Keep grey and alpha channels; else the result is RGB.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8 or uint16; with ``keep`` also ``(H, W)`` and ``(H, W, 4)``.

    Raises:
        ValueError: If the file is missing, corrupt, truncated or of another type; the message
            names it.
    """
    image = _decode(Path(path), cv2.IMREAD_UNCHANGED)
    if image.dtype.name not in PEAKS:
        raise ValueError(f'{path} holds {image.dtype}; only 8 and 16 bits are read.')
    if image.ndim == 2:
        return image if keep else np.repeat(image[..., None], 3, axis=2)
    if image.shape[2] == 4:
        return image[..., [2, 1, 0, 3]] if keep else np.ascontiguousarray(image[..., 2::-1])
    return np.ascontiguousarray(image[..., ::-1])


def read_upright(path: str | Path) -> np.ndarray:
    """Read an image as the frameworks' pipelines do: 8 bits, three channels, turned upright.

    Args:
        path (str | Path): The file.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8, RGB.

    Raises:
        ValueError: If the file is missing, corrupt or truncated; the message names it.
    """
    return np.ascontiguousarray(_decode(Path(path), cv2.IMREAD_COLOR)[..., ::-1])


def _decode(path: Path, flags: int) -> np.ndarray:
    try:
        # OpenCV fills what is missing of a truncated file with grey; Pillow notices.
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise ValueError(f'There is no image at {path}.') from None
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise ValueError(f'{path} cannot be read, is it truncated? ({error})') from None
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ValueError(f'{path} cannot be decoded; convert it to PNG.')
    return image


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write ``(H, W)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA as the suffix says.

    Raises:
        ValueError: If such an image has no place in such a file.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if image.ndim == 3:
        order = [2, 1, 0, 3][: image.shape[2]]
        image = np.ascontiguousarray(image[..., order])
    try:
        done, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    except cv2.error:
        done, data = False, None
    if not done or data is None:
        shape = 'x'.join(map(str, image.shape))
        raise ValueError(f'{path} cannot hold {shape} {image.dtype}; write PNG.')
    # OpenCV's own writer does not notice a full disk.
    with atomic(path) as partial:
        partial.write_bytes(data.tobytes())


def list_images(folder: str | Path) -> list[Path]:
    """Every image below ``folder``, sorted by path, hidden files left out."""
    return sorted(
        path
        for path in Path(folder).rglob('*')
        if path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()
    )
