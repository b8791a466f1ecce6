from __future__ import annotations

import re
from pathlib import Path

from .inspection import CheckpointError
from .read import read_checkpoint


def find_latest_checkpoint(path: str | Path) -> str | None:
    """Find the newest checkpoint of a work directory that can be read.

    Takes the place of mmengine's function of the same name, which believes what the file
    ``last_checkpoint`` says.

    Args:
        path (str | Path): The work directory; it may have been moved since.

    Returns:
        str | None: The checkpoint, None if there is none. What was passed over is printed.
    """
    for file in _newest_first(Path(path)):
        try:
            content = {} if file.is_dir() else read_checkpoint(file)
        except CheckpointError as error:
            print(f'passed over: {error}', flush=True)
            continue
        if file.is_dir() or {'state_dict', 'optimizer', 'meta'} <= content.keys():
            return str(file)
    return None


def _newest_first(folder: Path) -> list[Path]:
    """Checkpoints of a run: those written after the pointer, what it points to, then the others."""
    files = [p for p in folder.glob('*.pth') if re.search(r'\d', p.stem) and p.name[0] != '.']
    files = [path for path in files if not path.name.startswith('best_')]
    files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    pointer = folder / 'last_checkpoint'
    if not pointer.is_file():
        return files
    written = pointer.stat().st_mtime_ns
    newer = [path for path in files if path.stat().st_mtime_ns > written]
    text = pointer.read_text(errors='replace').strip()
    named = [p for p in (folder / Path(text).name, Path(text)) if text and p.exists()][:1]
    return list(dict.fromkeys([*newer, *named, *files]))
