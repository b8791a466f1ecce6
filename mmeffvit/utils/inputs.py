"""Input expansion, output paths and reporting, shared by the image and video tools."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import numpy as np

from .images import OTHER_SUFFIXES, SUFFIXES, list_files, number_order
from .videos import CODECS, Video, is_video


@dataclass
class Report:
    """Files written and sources that failed, of one run over images and videos.

    Attributes:
        written (list[Path]): Results.
        failed (list[tuple[Path, str]]): Sources that could not be used, and why.
    """

    written: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def fail(self, path: Path, error: Exception) -> None:
        """Note that a source could not be used."""
        reason = ' '.join(str(error).split()) or type(error).__name__
        if not isinstance(error, (ValueError, OSError)):
            reason = f'{type(error).__name__}: {reason}'
        self.failed.append((path, reason if str(path) in reason else f'{path}: {reason}'))

    def frames(self, path: Path) -> Iterator[np.ndarray]:
        """The frames of a video as far as it can be read; that it ends early is noted."""
        try:
            yield from Video(path)
        except ValueError as error:
            self.failed.append((path, str(error)))

    def conclude(self, out: str | Path) -> int:
        """Print how much was written to ``out`` and what failed; returns the exit code."""
        print(f'{len(self.written)} written to {out}')
        for _, reason in self.failed:
            print(f'skipped: {reason}', file=sys.stderr)
        return 1 if self.failed else 0


class Inputs:
    """Images and videos named by paths, folders and patterns, with the places of their results.

    Args:
        sources (Sequence[str | Path]): Images, videos, folders (every image and video below),
            or patterns such as ``'photos/**/*.jpg'``.
        out (str | Path): Folder of the results; files below it are not taken as sources.

    Attributes:
        files (list[Path]): Images and videos.
        ignored (list[Path]): Pictures of unknown types in the folders.

    Raises:
        ValueError: If a source is missing, is neither image nor video, or holds none; or the
            results would replace the sources.
    """

    def __init__(self, sources: Sequence[str | Path], out: str | Path) -> None:
        self._out = Path(out).resolve()
        expanded = [path for given in sources for path in _expand(given)]
        folders = {path if path.is_dir() else path.parent for path in expanded}
        self._root = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
        if self._out == self._root.resolve():
            raise ValueError(f'{out} is the folder of the source; results need another one.')
        self.ignored: list[Path] = []
        self.files = list(dict.fromkeys(file for path in expanded for file in self._files(path)))

    def _files(self, source: Path) -> list[Path]:
        if source.is_file():
            if source.suffix.lower() not in SUFFIXES and not is_video(source):
                known = ' '.join((*SUFFIXES, *CODECS))
                raise ValueError(f'{source} is no image or video by its suffix; known are {known}.')
            return [source]
        known = (*SUFFIXES, *CODECS)
        found = [
            path
            for path in list_files(source, (*known, *OTHER_SUFFIXES))
            if self._out not in path.resolve().parents
        ]
        files = [path for path in found if path.suffix.lower() in known]
        if not files:
            raise ValueError(f'{source} holds no image or video ({" ".join(known)}).')
        self.ignored += [path for path in found if path.suffix.lower() not in known]
        return files

    def report(self) -> Report:
        """A report in which the pictures of unknown types are failures already."""
        reason = 'is a picture of a type that is not read; convert it to PNG.'
        return Report(failed=[(path, f'{path} {reason}') for path in self.ignored])

    def place(self, path: Path) -> Path:
        """Path of a source relative to the folder that all sources share; results keep it."""
        return Path(os.path.abspath(path)).relative_to(self._root)

    def count_steps(self) -> int:
        """Number of images and frames."""
        return sum(Video(path).count if is_video(path) else 1 for path in self.files)


def _expand(given: str | Path) -> list[Path]:
    if Path(given).exists():
        return [Path(given)]
    found = [Path(path) for path in glob(str(given), recursive=True)]
    found = sorted((path for path in found if not _is_circular(path)), key=number_order)
    if not found:
        raise ValueError(f'There is nothing at {given}.')
    return found


def _is_circular(path: Path) -> bool:
    """Whether a path leads through a link back into a folder that it comes from."""
    folders = [folder.resolve() for folder in path.absolute().parents]
    return len(set(folders)) < len(folders)
