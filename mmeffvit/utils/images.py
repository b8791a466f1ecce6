"""Reading and writing 8- and 16-bit images in RGB order; truncated files are refused."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .atomic import atomic

#: Largest value of each integer type that images are stored in.
PEAKS = {'uint8': 255, 'uint16': 65535}
SUFFIXES = ('.png', '.jpg', '.jpeg', '.jfif', '.bmp', '.tif', '.tiff', '.webp', '.ppm')
_EIGHT_BITS = ('.jpg', '.jpeg', '.jfif', '.bmp', '.webp')
_ENCODERS = {'.jfif': '.jpg'}
#: Suffixes of pictures that are not read; a folder that holds one says so.
OTHER_SUFFIXES = ('.gif', '.heic', '.heif', '.avif', '.jp2', '.jxl', '.exr', '.hdr', '.dng', '.svg')
_EXIF_ORIENTATION = 0x0112


def read_image(path: str | Path, keep: bool = False) -> np.ndarray:
    """Read an image, turned upright as its EXIF data say.

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


def read_profile(path: str | Path) -> bytes | None:
    """Read the colour profile (ICC) that a picture names, for :func:`write_image`.

    Pixels are read as they are stored: models have learned from pictures read in this way.
    """
    try:
        with Image.open(path) as image:
            return image.info.get('icc_profile')
    except Exception:  # a damaged file, which reading it names
        return None


def _decode(path: Path, flags: int) -> np.ndarray:
    try:
        # OpenCV fills what is missing of a truncated file with grey; Pillow notices.
        with Image.open(path) as image:
            image.load()
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except FileNotFoundError:
        raise ValueError(f'There is no image at {path}.') from None
    except Image.DecompressionBombError as error:
        raise ValueError(f'{path} is too large: {error}') from None
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise ValueError(f'{path} cannot be read, is it truncated? ({error})') from None
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error as error:
        raise ValueError(f'{path} cannot be decoded: {error.err}') from None
    if image is None:
        raise ValueError(f'{path} cannot be decoded; convert it to PNG.')
    # OpenCV turns images except where it is asked for them unchanged.
    return _turned(image, orientation) if flags == cv2.IMREAD_UNCHANGED else image


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image upright, by the value of its EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def write_image(path: str | Path, image: np.ndarray, profile: bytes | None = None) -> None:
    """Write ``(H, W)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA as the suffix says.

    Args:
        path (str | Path): The file.
        image (np.ndarray): uint8 or uint16.
        profile (bytes, optional): Colour profile, kept in PNG and JPEG files.

    Raises:
        ValueError: If such an image has no place in such a file.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if image.dtype == np.uint16 and suffix in _EIGHT_BITS:
        raise ValueError(f'{path} cannot hold 16 bits: name it .png or .tif.')
    is_grey = image.ndim == 2
    if not is_grey:
        order = [2, 1, 0, 3][: image.shape[2]]
        image = np.ascontiguousarray(image[..., order])
    try:
        done, data = cv2.imencode(
            _ENCODERS.get(suffix, suffix), image, [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
    except cv2.error:
        done, data = False, None
    if not done or data is None:
        shape = 'x'.join(map(str, image.shape))
        raise ValueError(f'{path} cannot hold {shape} {image.dtype}; write PNG.')
    # OpenCV's own writer does not notice a full disk.
    with atomic(path) as partial:
        partial.write_bytes(_with_profile(data.tobytes(), profile, is_grey))


def _with_profile(data: bytes, profile: bytes | None, is_grey: bool) -> bytes:
    """Put a colour profile into a PNG (chunk iCCP) or JPEG (segments APP2) file."""
    if not profile or profile[16:20] != (b'GRAY' if is_grey else b'RGB '):
        return data
    if data.startswith(b'\x89PNG'):
        content = b'iCCPprofile\0\0' + zlib.compress(profile)
        marks = struct.pack('>I', len(content) - 4) + content
        marks += struct.pack('>I', zlib.crc32(content))
        start = 33  # after signature and IHDR
    elif data.startswith(b'\xff\xd8\xff\xe0'):
        parts = [profile[i : i + 65519] for i in range(0, len(profile), 65519)]
        marks = b''.join(
            struct.pack('>2sH12s2B', b'\xff\xe2', len(part) + 16, b'ICC_PROFILE', i, len(parts))
            + part
            for i, part in enumerate(parts, 1)
        )
        start = 4 + int.from_bytes(data[4:6], 'big')  # after JFIF's segment
    else:
        return data
    return data[:start] + marks + data[start:]


def list_images(folder: str | Path) -> list[Path]:
    """Every image below ``folder``, in number order, hidden files left out."""
    return list_files(folder, SUFFIXES)


def list_files(folder: str | Path, suffixes: Sequence[str]) -> list[Path]:
    """Every file below ``folder`` with one of ``suffixes``, as :func:`list_images`."""
    found = (
        path
        for path in Path(folder).rglob('*')
        if path.suffix.lower() in suffixes and not path.name.startswith('.') and path.is_file()
    )
    return sorted(found, key=number_order)


def number_order(path: str | Path) -> tuple:
    """Sort key of a path that puts ``frame_2`` before ``frame_10``."""
    parts = [
        tuple((0, int(text), '') if text.isdecimal() else (1, 0, text) for text in _split(part))
        for part in Path(path).parts
    ]
    return tuple(parts), str(path)


def _split(name: str) -> list[str]:
    return [text for text in re.split(r'([0-9]+)', name) if text]
