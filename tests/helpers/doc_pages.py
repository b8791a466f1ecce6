"""The code blocks of the documentation, as the tests run them.

A comment on the line before a block says what is special about it: ``<!-- file: NAME -->``, it is
the file of that name; ``<!-- not run: REASON -->``, its commands are checked and not run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / 'docs'
_BLOCK = re.compile(
    r'^(?:<!-- (?P<mark>file|not run): (?P<value>.+?) -->\n)?```(?P<language>bash|python)\n'
    r'(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language (str): ``bash`` or ``python``.
        text (str): What it holds.
        line (int): Its first line in the page.
        mark (str | None): ``file`` or ``not run``.
        value (str | None): The file's name, or the reason.
    """

    language: str
    text: str
    line: int
    mark: str | None
    value: str | None


def read_blocks(page: Path) -> list[Block]:
    """All bash and python blocks of a page, in order."""
    source = page.read_text()
    return [
        Block(
            line=source[: match.start('text')].count('\n') + 1,
            **{name: match[name] for name in ('language', 'text', 'mark', 'value')},
        )
        for match in _BLOCK.finditer(source)
    ]


def write_files(page: Path, folder: Path) -> None:
    """Write the blocks of a page that are files."""
    for block in read_blocks(page):
        if block.mark == 'file':
            (folder / block.value).write_text(block.text)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a bash block, without variables set before it."""
    for line in text.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r'[A-Z_]+=', words[0]):
            words.pop(0)
        if words:
            yield words
