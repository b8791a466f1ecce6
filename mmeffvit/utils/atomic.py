"""Atomic writes: files are written under a partial name, then renamed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: In the name of a file that is not whole yet.
MARK = '.partial'


@contextmanager
def atomic(path: str | Path, sync: bool = False, optional: bool = False) -> Iterator[Path]:
    """Replace a file in one step, once its new content is whole.

    Args:
        path (str | Path): The file; its folder is made. What it held stays until the end, and for
            ever if an exception leaves the block.
        sync (bool): Also outlast a loss of power.
        optional (bool): The block may make no file; then nothing is replaced.

    Yields:
        Path: An empty hidden file in the same folder, with the same suffix, to be written. Its
            name is drawn at random and newly made, so no link that lies there is followed.

    Raises:
        OSError: If the folder cannot be written to.

    Example:
        >>> with atomic('curve.png') as partial:
        ...     figure.savefig(partial)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f'.{path.stem}.{secrets.token_hex(4)}{MARK}{path.suffix}'
    partial = path.with_name(name)
    try:  # from before it is made: an interruption may come at any place
        if not optional:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield partial
        if optional and not partial.exists():
            return
        if sync:
            _sync(partial)
        partial.replace(path)
        if sync:
            _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_group(path: str | Path) -> Iterator[Path]:
    """Replace a file beside which its writer may put others, as ONNX does with large weights.

    Args:
        path (str | Path): The file. An earlier one stays until the new ones are whole; if there are
            others, it is removed before they are put in place, so that it never names those of
            another.

    Yields:
        Path: A file of the same name in an empty hidden folder beside it, to be written there.

    Raises:
        OSError: If the folder cannot be written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f'.{path.stem}.{secrets.token_hex(4)}{MARK}')
    try:
        folder.mkdir()
        yield folder / path.name
        others = [file for file in folder.iterdir() if file.name != path.name]
        if others:
            path.unlink(missing_ok=True)
        for file in others:
            file.replace(path.with_name(file.name))
        (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one step."""
    with atomic(path) as partial:
        partial.write_text(text, encoding='utf-8')


def write_json(path: str | Path, content: object, indent: int | None = None) -> None:
    """Write a JSON file in one step."""
    write_text(path, json.dumps(content, indent=indent))


def remove_partials(folder: str | Path) -> list[Path]:
    """Delete what killed processes left half-written in a folder; no other may be writing there."""
    found = sorted(Path(folder).glob(f'.*{MARK}*'))
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
