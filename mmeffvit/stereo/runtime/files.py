"""Disparity of image files; pairs that cannot be read are reported and skipped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...utils.atomic import atomic
from ...utils.images import list_images, read_image, write_image
from ...utils.inputs import Report
from ..data.transforms import write_disparity
from .matcher import OCCLUDED, StereoMatcher, colour_disparity

#: Least disparity in pixels that has a depth.
LEAST_DISPARITY = 1e-3


def find_stereo_pairs(left: str | Path, right: str | Path) -> list[tuple[Path, Path]]:
    """Pairs of image files: two images, or those of the same names in two folders.

    Raises:
        ValueError: If there is nothing, or an image has no partner.
    """
    left, right = Path(left), Path(right)
    if not left.is_dir():
        for path in (left, right):
            if not path.is_file():
                raise ValueError(f'There is no image at {path}.')
        return [(left, right)]
    if not right.is_dir():
        raise ValueError(f'{left} is a folder and {right} is none; give two folders.')
    pairs = [(path, right / path.relative_to(left)) for path in list_images(left)]
    alone = next((path for path, other in pairs if not other.is_file()), None)
    if not pairs or alone is not None:
        raise ValueError(
            f'{left} holds no image.' if not pairs else f'{alone} has no partner in {right}.'
        )
    return pairs


def depth_of(disparity: np.ndarray, focal: float, baseline: float) -> np.ndarray:
    """Depth ``focal * baseline / disparity``; 0 where there is hardly any disparity.

    Args:
        disparity (np.ndarray): ``(H, W)`` in pixels.
        focal (float): Focal length in pixels.
        baseline (float): Distance of the cameras; depth has its unit.

    Raises:
        ValueError: If one of them is not positive.
    """
    if focal <= 0 or baseline <= 0:
        raise ValueError(f'focal={focal} and baseline={baseline} must be positive.')
    known = disparity > LEAST_DISPARITY
    return np.where(known, focal * baseline / np.where(known, disparity, 1), 0).astype(np.float32)


def write_stereo_files(
    matcher: StereoMatcher,
    pairs: Iterable[tuple[Path, Path]],
    out: str | Path,
    camera: Sequence[float] | None = None,
) -> Report:
    """Compute pairs of files, and write disparity, occlusion and a picture of each.

    ``NAME.pfm``, ``NAME.png`` (16 bits, 1/256 pixel), ``NAME_occlusion.png``, ``NAME_colour.png``
    and, with a camera, ``NAME_depth.pfm``.

    Args:
        matcher (StereoMatcher): The model.
        pairs (Iterable[tuple[Path, Path]]): Image files.
        out (str | Path): Folder of the results.
        camera (Sequence[float], optional): Focal length in pixels and baseline.

    Returns:
        Report: Files written and pairs that failed.
    """
    out, report = Path(out), Report()
    out.mkdir(parents=True, exist_ok=True)
    if camera is not None:
        depth_of(np.ones((1, 1)), *camera)  # before any work
    for left, right in pairs:
        try:
            found = matcher(read_image(left), read_image(right))
        except ValueError as error:
            report.fail(left, error)
            continue
        maps = {f'{left.stem}.pfm': found.disparity, f'{left.stem}.png': found.disparity}
        if camera is not None:
            maps[f'{left.stem}_depth.pfm'] = depth_of(found.disparity, *camera)
        for name, array in maps.items():
            with atomic(out / name) as partial:
                write_disparity(partial, array)
            report.written.append(out / name)
        pictures = dict(
            occlusion=np.where(found.occlusion > OCCLUDED, 255, 0).astype(np.uint8),
            colour=colour_disparity(*found),
        )
        for name, picture in pictures.items():
            path = out / f'{left.stem}_{name}.png'
            write_image(path, picture)
            report.written.append(path)
    return report
