"""Options of command lines, checked while they are read."""

from __future__ import annotations

import argparse
import re
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from ..utils.device import check_device
from .errors import UserError


class Parser(argparse.ArgumentParser):
    """Parser of a command line; a mistake ends in one line, under a launcher too."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """Parse, and name the nearest option of one that there is not."""
        found, unknown = super().parse_known_args(args, namespace)
        for text in unknown:
            near = get_close_matches(text.partition('=')[0], self._option_string_actions, 1)
            if text.startswith('-') and near:
                self.error(f'{text} is no option: did you mean {near[0]}?')
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise what :func:`~mmeffvit.cli.errors.run_cli` says in one line.

        Raises:
            UserError: Always.
        """
        raise UserError(f'{message.rstrip(".")}. See {self.prog} --help.')


def positive(text: str) -> int:
    """Read a whole number from 1."""
    return _integer(text, 1)


def natural(text: str) -> int:
    """Read a whole number from 0."""
    return _integer(text, 0)


def seed(text: str) -> int:
    """Read a seed, which numpy takes from 0 to 2**32 - 1."""
    return _integer(text, 0, 2**32 - 1)


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} must be a number from 0 to 1')
    return value


def pattern(text: str) -> str:
    """Read a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f'{text} is no regular expression: {error}') from None
    return text


def device(text: str) -> str:
    """Read the name of a device that is there."""
    try:
        return check_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def output_file(text: str) -> Path:
    """Read the path of a file that can be written."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text} is a folder: name a file')
    _check_writable(path.parent, text)
    return path


def output_folder(text: str) -> Path:
    """Read the path of a folder that can be written to."""
    _check_writable(Path(text), text)
    return Path(text)


def _check_writable(folder: Path, text: str) -> None:
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f'{text} cannot be written: {there} is no folder')
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f'{text} cannot be written: {there}: {error.strerror}'
        ) from None


def _integer(text: str, least: int, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or (most is not None and value > most):
        span = f'of at least {least}' if most is None else f'from {least} to {most}'
        raise argparse.ArgumentTypeError(f'{text} must be a whole number {span}')
    return value
