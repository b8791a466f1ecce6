"""Where checkpoints come from: files, downloads that are kept, and mmengine's model zoos."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import torch
from mmengine.runner import checkpoint as zoo

from .download import download_once
from .index import SCHEME
from .inspection import CheckpointError


@contextmanager
def fetch(source: str | Path) -> Iterator[BinaryIO]:
    """Open a checkpoint wherever it is.

    Args:
        source (str | Path): A file, an ``http(s)`` URL, ``torchvision://NAME``,
            ``open-mmlab://NAME``, ``mmcls://NAME``, ``s3://…``, ``pavi://…``, or
            ``mmeffvit://NAME`` for :mod:`published weights <mmeffvit.checkpoints.published>`.

    Yields:
        BinaryIO: Its bytes.

    Raises:
        CheckpointError: If there is none, or it cannot be fetched.
    """
    text = str(source)
    scheme, separator, name = text.rpartition('://')
    if not separator:
        path = Path(text).expanduser()
        if not os.path.isfile(path):  # False also for names that are too long
            found = 'is a folder' if os.path.isdir(path) else 'does not exist'
            raise CheckpointError(f'{source} {found}: give the path of a checkpoint.')
    elif text.startswith(SCHEME):
        from .published import open_published  # which converts, and so builds models

        with open_published(text) as file:
            yield file
        return
    elif scheme in ('http', 'https'):
        path = download(text)
    elif scheme in _ZOOS:
        path = _from_zoo(scheme, name)
    elif scheme.rpartition(':')[2] in ('s3', 'petrel'):
        backend = zoo.get_file_backend(text, backend_args=dict(backend='petrel'))
        yield io.BytesIO(backend.get(text))
        return
    elif scheme == 'pavi':
        with _from_pavi(name) as file:
            yield file
        return
    else:
        raise CheckpointError(f'{source}: addresses that start with {scheme}:// are not known.')
    try:
        file = path.open('rb')
    except OSError as error:
        raise CheckpointError(f'{source} cannot be opened: {error.strerror}.') from None
    with file:
        yield file


def download(url: str) -> Path:
    """Download a file, or find it where it was downloaded to.

    In a distributed run the first process downloads; the others wait for it. See
    :func:`~mmeffvit.checkpoints.download.download` for what happens after a break.

    Args:
        url (str): An ``http(s)`` URL.

    Returns:
        Path: A file in PyTorch's hub folder, named by the last part of the address and a hash of
            all of it.

    Raises:
        CheckpointError: If it cannot be downloaded whole.
    """
    place = Path(url.partition('?')[0])
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    name = f'{place.stem[:80]}-{digest}{place.suffix[:12]}'
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    download_once(url, path)
    return path


def _from_zoo(scheme: str, name: str) -> Path:
    names = getattr(zoo, _ZOOS[scheme])()
    if scheme in ('open-mmlab', 'openmmlab'):
        name = zoo.get_deprecated_model_names().get(name, name)
    if name not in names:
        raise CheckpointError(f'{scheme}://{name}: there is no such model.')
    address = names[name]
    if '://' in address:
        return download(address)
    return Path(zoo._get_mmengine_home(), address)


#: Functions of mmengine that list the addresses of a zoo.
_ZOOS = {
    'modelzoo': 'get_torchvision_models',
    'torchvision': 'get_torchvision_models',
    'open-mmlab': 'get_external_models',
    'openmmlab': 'get_external_models',
    'mmcls': 'get_mmcls_models',
}


@contextmanager
def _from_pavi(name: str) -> Iterator[BinaryIO]:
    from pavi import modelcloud  # pyright: ignore[reportMissingImports]

    model = modelcloud.get(name)
    with TemporaryDirectory() as folder:
        path = Path(folder, model.name)
        model.download(str(path))
        with path.open('rb') as file:
            yield file
