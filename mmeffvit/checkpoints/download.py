"""Downloads that go on after a break, and are whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import torch
from filelock import FileLock
from mmengine.dist import barrier, get_rank

from .inspection import CheckpointError

#: Seconds without a byte after which a connection is given up; ``MMEFFVIT_TIMEOUT``.
TIMEOUT = 60.0
#: Attempts without a new byte, and the seconds between two.
ATTEMPTS, PAUSE = 3, 1.0
_CHUNK = 2**20
#: Variables that forbid any use of the network.
OFFLINE = ('MMEFFVIT_OFFLINE', 'HF_HUB_OFFLINE')


def is_set(name: str) -> bool:
    """Whether a variable of the environment switches something on."""
    return os.environ.get(name, '').lower() not in ('', '0', 'false', 'no', 'off')


def cache_folder() -> Path:
    """Where published weights and locks are kept: ``mmeffvit`` in PyTorch's hub folder.

    ``TORCH_HOME`` moves it.
    """
    return Path(torch.hub.get_dir(), 'mmeffvit')


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time make a file, others wait.

    Raises:
        CheckpointError: If the cache cannot be written to.
    """
    folder = cache_folder() / 'locks'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f'{name}.lock')
        lock.acquire()
    except OSError as error:
        raise CheckpointError(
            f'{folder} cannot be written to ({error.strerror or error}): let TORCH_HOME name a '
            'folder that can.'
        ) from None
    try:
        yield
    finally:
        lock.release()


def download_once(url: str, path: Path, sha256: str = '') -> None:
    """Download a file that is not there; of several processes one does, the others wait.

    Args:
        url (str): An ``http(s)`` address.
        path (Path): The file.
        sha256 (str): Its SHA-256 in hexadecimal, or the beginning; not checked if empty.

    Raises:
        CheckpointError: If it cannot be downloaded whole.
    """
    try:
        if get_rank() == 0:
            _download_locked(url, path, sha256)
    finally:
        barrier()
    _download_locked(url, path, sha256)  # no file system in common with the first process


def _download_locked(url: str, path: Path, sha256: str) -> None:
    if path.is_file():
        return
    with locked(path.name):
        if not path.is_file():
            download(url, path, sha256)


def download(url: str, path: Path, sha256: str = '') -> None:
    """Download a file; what arrived before a break is kept under a partial name and completed.

    A partial file is continued only where the server says that its file is the same (``ETag`` or
    ``Last-Modified``). The file has its name once its length and hash are right.

    Args:
        url (str): An ``http(s)`` address.
        path (Path): The file.
        sha256 (str): See :func:`download_once`.

    Raises:
        CheckpointError: If it cannot be downloaded whole.
    """
    switch = next((name for name in OFFLINE if is_set(name)), None)
    if switch:
        raise CheckpointError(f'{url} is not downloaded, for {switch} is set.')
    partial = path.with_name(f'.{path.name}.part')
    print(f'downloading {url} to {path}', file=sys.stderr, flush=True)
    failures = 0
    while True:
        before = _size(partial)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _receive(url, partial)
            break
        except (OSError, ValueError, HTTPException) as error:  # urllib's errors are OSErrors
            failures = 0 if _size(partial) > before else failures + 1
            code = None
            if isinstance(error, urllib.error.HTTPError):
                code = error.code
                error.close()
            if code == 416 and before:  # it is no part of that file
                partial.unlink()
                continue
            final = code is not None and code < 500
            if final or not _note(partial).is_file() or failures == ATTEMPTS:
                raise CheckpointError(f'{url} cannot be downloaded: {_reason(error)}.') from None
            time.sleep(PAUSE)
    found = sha256_of(partial)
    _note(partial).unlink(missing_ok=True)
    if not found.startswith(sha256.lower()):
        partial.unlink()
        raise CheckpointError(
            f'{url} has the SHA-256 {found}, not {sha256}: it was replaced, or damaged on its way; '
            'nothing of it is kept.'
        )
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects as usual, except from an encrypted address to one that is not."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == 'https' and not newurl.startswith('https:'):
            raise OSError(f'it redirects to {newurl}, which is not encrypted')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, partial: Path) -> None:
    """Receive a file, or what is missing of it; raises OSError if it does not arrive whole."""
    start, validator = _size(partial), _validator_of(partial, url)
    request = urllib.request.Request(url)
    if start and validator:
        request.add_header('Range', f'bytes={start}-')
        request.add_header('If-Range', validator)
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(request, timeout=_timeout()) as answer:
        if answer.status != 206 or not answer.headers.get('Content-Range', '').startswith(
            f'bytes {start}-'
        ):
            start = 0
        etag = answer.headers.get('ETag', '')
        found = '' if etag.startswith('W/') else etag
        found = found or answer.headers.get('Last-Modified', '')
        _note(partial).unlink(missing_ok=True)
        if found:
            _note(partial).write_text(json.dumps(dict(url=url, validator=found)))
        declared = answer.headers.get('Content-Length')
        whole = None if declared is None else start + int(declared)
        try:
            with partial.open('ab' if start else 'wb') as file, _progress(whole, start) as advance:
                while chunk := answer.read1(_CHUNK):
                    file.write(chunk)
                    advance(len(chunk))
            if whole is not None and _size(partial) != whole:
                raise OSError(f'{_size(partial)} of {whole} bytes arrived')
        except BaseException:
            if not found:  # nobody could tell whether the rest is of the same file
                partial.unlink(missing_ok=True)
            raise


@contextmanager
def _progress(whole: int | None, start: int) -> Iterator:
    """Show a bar where there is a terminal; gives the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task('download', total=whole, completed=start)
        yield lambda count: shown.advance(task, count)


def _note(partial: Path) -> Path:
    """What a partial file is a part of."""
    return partial.with_name(f'{partial.name}.json')


def _validator_of(partial: Path, url: str) -> str:
    with suppress(OSError, ValueError, AttributeError):
        note = json.loads(_note(partial).read_text())
        if note.get('url') == url:
            return str(note.get('validator', ''))
    return ''


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _timeout() -> float:
    text = os.environ.get('MMEFFVIT_TIMEOUT') or TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ValueError(f'MMEFFVIT_TIMEOUT={text} must be a number of seconds')
    return seconds


def _reason(error: Exception) -> str:
    reason = getattr(error, 'reason', None) or error
    if isinstance(reason, TimeoutError) or 'timed out' in str(reason):
        return f'no byte arrived within {_timeout():g} s'
    if isinstance(error, urllib.error.HTTPError):
        return f'HTTP Error {error.code}: {error.reason}'
    return str(reason) or type(error).__name__
