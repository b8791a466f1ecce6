"""What the parts find, one JSON line per finding, written at once."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

#: Name of the file in the folder of the results, while parts run.
LOG = 'records.jsonl'


class Recorder:
    """Appends findings to a file.

    Args:
        path (Path): The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, **content) -> None:
        """Append one finding.

        Args:
            kind (str): ``'environment'``, ``'part'``, ``'test'``, ``'ceiling'``, ``'operator'``
                ``'candidate'``, ``'network'`` or ``'profile'``.
            **content: JSON-like values.
        """
        with self.path.open('a') as file:
            file.write(json.dumps(dict(kind=kind, **content), default=str) + '\n')


def read(path: Path) -> list[dict]:
    """All findings; a last line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def part_parser(description: str | None) -> argparse.ArgumentParser:
    """Make the parser of the options that every part takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--log', type=Path, required=True, help='append findings to this file')
    parser.add_argument('--seconds', type=float, required=True, help='start nothing after this')
    parser.add_argument('--quick', action='store_true', help='tiny problems, to try the script')
    return parser
