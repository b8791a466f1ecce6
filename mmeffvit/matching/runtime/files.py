"""Matching of image files; pairs that cannot be read are reported and skipped."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.atomic import atomic
from ...utils.images import list_images, read_image, write_image
from ...utils.inputs import Report
from ..data.datasets import PairList
from ..estimation import estimate_homography, estimate_pose
from .drawing import draw_matches, draw_overlay
from .matcher import ImageMatches, Matcher


def find_pairs(first: str | Path, second: str | Path | None = None) -> list[tuple[Path, Path]]:
    """Pairs of image files.

    Args:
        first (str | Path): An image; a folder; or, without ``second``, a list of pairs in the
            format of :class:`PairList`, or a folder whose images are paired in order.
        second (str | Path, optional): An image; or a folder, whose images belong to those of the
            same name in the first, whatever their suffixes.

    Raises:
        ValueError: If there is nothing, or no pair.
    """
    first = Path(first)
    if second is None:
        if first.is_dir():
            pairs = PairList(data_root=str(first))
        else:
            pairs = PairList(data_root=str(first.parent), ann_file=first.name)
        infos = [pairs.get_data_info(index) for index in range(len(pairs))]
        return [(Path(info['image0_path']), Path(info['image1_path'])) for info in infos]
    second = Path(second)
    if first.is_dir() != second.is_dir():
        raise ValueError(f'{first} and {second} must be two images or two folders.')
    if not first.is_dir():
        for path in (first, second):
            if not path.is_file():
                raise ValueError(f'There is nothing at {path}.')
        return [(first, second)]
    there = {path.relative_to(second).with_suffix(''): path for path in list_images(second)}
    pairs = [
        (path, there[name])
        for path in list_images(first)
        if (name := path.relative_to(first).with_suffix('')) in there
    ]
    if not pairs:
        raise ValueError(f'{first} and {second} hold no images of the same names.')
    return pairs


def read_intrinsics(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the intrinsics of both images from a text file: one 3x3 matrix for both, or two.

    Raises:
        ValueError: If the file is missing or holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f'There is no file of intrinsics at {path}.')
    try:
        numbers = np.array(Path(path).read_text().split(), np.float64)
    except ValueError:
        numbers = np.zeros(0)
    if numbers.size not in (9, 18):
        raise ValueError(f'{path} must hold 9 numbers, one 3x3 matrix for both images, or 18.')
    matrices = numbers.reshape(-1, 3, 3)
    return matrices[0], matrices[-1]


def match_files(
    matcher: Matcher,
    pairs: Iterable[tuple[Path, Path]],
    out: str | Path,
    max_matches: int | None = None,
    homography: bool = False,
    intrinsics: tuple[np.ndarray, np.ndarray] | None = None,
) -> Report:
    """Match pairs of files, and write points, confidences and a picture of each.

    ``NAME.npz`` (``points0``, ``points1``, ``confidence``, and what else is estimated),
    ``NAME.csv`` and ``NAME.png``.

    Args:
        matcher (Matcher): The model.
        pairs (Iterable[tuple[Path, Path]]): Image files.
        out (str | Path): Folder of the results.
        max_matches (int, optional): The most confident matches that are kept.
        homography (bool): Also estimate a homography, and draw image 0 on image 1 by it
            (``NAME_overlay.png``).
        intrinsics (tuple[np.ndarray, np.ndarray], optional): Of both images; also estimate the
            relative pose.

    Returns:
        Report: Files written and pairs that failed.
    """
    out, report = Path(out), Report()
    taken: dict[str, int] = {}
    for first, second in pairs:
        name = f'{first.stem}-{second.stem}'
        taken[name] = taken.get(name, 0) + 1
        name = name if taken[name] == 1 else f'{name}-{taken[name]}'
        try:
            images = read_image(first, keep=True), read_image(second, keep=True)
            found = matcher(*images, max_matches=max_matches)
        except ValueError as error:
            report.fail(first, error)
            continue
        arrays = dict(found._asdict())
        pictures = {f'{name}.png': draw_matches(*images, *found)}
        if homography:
            matrix = estimate_homography(found.points0, found.points1)
            if matrix is None:
                report.failed.append((first, f'{name}: too few matches for a homography.'))
            else:
                arrays['homography'] = matrix
                pictures[f'{name}_overlay.png'] = draw_overlay(*images, matrix)
        if intrinsics is not None:
            pose = estimate_pose(found.points0, found.points1, *intrinsics)
            if pose is None:
                report.failed.append((first, f'{name}: too few matches for a pose.'))
            else:
                arrays.update(rotation=pose[0], translation=pose[1], inliers=pose[2])
        report.written += write_matches(out, name, found, arrays)
        for file, picture in pictures.items():
            write_image(out / file, picture)
            report.written.append(out / file)
    return report


def write_matches(out: Path, name: str, found: ImageMatches, arrays: dict[str, Any]) -> list[Path]:
    """Write ``NAME.npz`` with all arrays, and ``NAME.csv`` with the points."""
    out.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    table = io.StringIO()
    rows = np.column_stack([found.points0, found.points1, found.confidence])
    np.savetxt(table, rows, '%.4f', ',', header='x0,y0,x1,y1,confidence', comments='')
    paths = [out / f'{name}.npz', out / f'{name}.csv']
    for path, data in zip(paths, (buffer.getvalue(), table.getvalue().encode())):
        with atomic(path) as partial:
            partial.write_bytes(data)
    return paths
