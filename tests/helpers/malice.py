"""Checkpoints that would run code, in every format of pickles; what they run leaves a mark."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import torch


class Malice:
    """Makes a folder when it is loaded by a reader that trusts it."""

    def __init__(self, mark: str | Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.system, (f'mkdir -p "{self.mark}"',)


class MaliceByMethod(Malice):
    """Reaches the same through the look-up that log histories need."""

    def __reduce__(self):
        return getattr, (os, 'system')


def content(mark: str | Path, state: dict | None = None, malice: type[Malice] = Malice) -> dict:
    """A training checkpoint with code beside the weights."""
    state = state or {'weight': torch.ones(2)}
    meta = dict(epoch=1, iter=2, seed=0, hook=malice(mark))
    return dict(state_dict=state, meta=meta, optimizer={}, message_hub={})


def write_zip(path: Path, mark: Path, state: dict | None = None) -> None:
    """PyTorch's format since 1.6."""
    torch.save(content(mark, state), path)


def write_zip_4(path: Path, mark: Path, state: dict | None = None) -> None:
    """The same with a newer protocol of pickles."""
    torch.save(content(mark, state), path, pickle_protocol=4)


def write_legacy(path: Path, mark: Path, state: dict | None = None) -> None:
    """PyTorch's format before 1.6."""
    torch.save(content(mark, state), path, _use_new_zipfile_serialization=False)


def write_pickle(path: Path, mark: Path, state: dict | None = None) -> None:
    """A bare pickle."""
    path.write_bytes(pickle.dumps(dict(state_dict={}, meta=Malice(mark))))


WRITERS = (write_zip, write_zip_4, write_legacy, write_pickle)


def rezip(source: Path, target: Path, changed: dict[str, bytes], **options) -> None:
    """Copy an archive with other content in some records."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w', **options) as new:
        for entry in old.infolist():
            name = entry.filename.partition('/')[2]
            new.writestr(entry.filename, changed.get(name, old.read(entry)))


def safetensors_header(header: bytes, data: bytes = b'') -> bytes:
    """A ``.safetensors`` file of any header."""
    return struct.pack('<Q', len(header)) + header + data


def legacy_bytes(content: object) -> bytes:
    """A checkpoint in the format before 1.6, as bytes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()
