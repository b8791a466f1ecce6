"""What the parts find, one JSON line per finding, written at once."""

from __future__ import annotations

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
