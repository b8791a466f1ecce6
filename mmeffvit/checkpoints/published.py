"""Published weights: fetched once, checked, converted strictly, and kept converted."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import BinaryIO

import torch

from ..registry import MODELS
from ..utils.atomic import write_json
from ..version import __version__
from ..zoo import entries
from .convert import FAMILIES, convert
from .download import cache_folder, download_once, locked, sha256_of
from .index import OURS, PublishedFile, split_address
from .inspection import CheckpointError
from .keymap import Conversion
from .load import LOGGER
from .read import read_weights
from .write import safetensors_bytes, write_weights

#: Folder or address of a mirror that stands in for the network.
PLACE = 'MMEFFVIT_WEIGHTS'
_SCRATCH = 'train from scratch by --from-scratch (MMEFFVIT_FROM_SCRATCH=1)'


def open_published(address: str) -> BinaryIO:
    """Open the converted weights of an address, ``.safetensors``.

    Args:
        address (str): ``mmeffvit://NAME`` or, for another key map than the file's own, such as one
            that starts a model from a baseline, ``mmeffvit://NAME/FAMILY``.

    Raises:
        CheckpointError: If there is no such file, or it cannot be had or is another one.
    """
    entry, family = split_address(address)
    if family not in (*FAMILIES, OURS):
        raise CheckpointError(
            f'{address}: {family!r} is no key map; {entry.address} has {entry.family!r}, others '
            f'are {", ".join(FAMILIES)}.'
        )
    source, digest = obtain(entry)
    _say_once(address, entry.url or entry.origin, digest, str(source))
    name = f'{entry.name}-{family}-{digest[:16]}-{_version_of_maps()}.safetensors'
    path = cache_folder() / 'converted' / name
    if not path.is_file():
        result, meta = convert_published(entry, family, source, digest)
        try:
            with locked(name):
                if not path.is_file():
                    write_weights(result.state, path, meta)
        except CheckpointError as error:  # a cache that cannot be written to costs only time
            LOGGER.info('%s', error)
            return io.BytesIO(safetensors_bytes(result.state, meta))
    return path.open('rb')


def obtain(entry: PublishedFile) -> tuple[Path, str]:
    """Find a published file where it was kept, or download it.

    Args:
        entry (PublishedFile): The file. ``MMEFFVIT_WEIGHTS`` names a folder to take it from, or
            the address of a mirror to download it from.

    Returns:
        tuple[Path, str]: The file and its SHA-256.

    Raises:
        CheckpointError: If it is not there and cannot be downloaded, or has another hash than the
            published one or the first that was seen.
    """
    place = os.environ.get(PLACE, '')
    if place and '://' not in place:
        path = Path(place).expanduser() / entry.file_name
        if not path.is_file():
            raise CheckpointError(
                f'{PLACE}={place} has no {entry.file_name}, the file of '
                f'{entry.url or entry.origin}: put it there by tools/weights.py get {entry.name} '
                f'--out {place} or by hand{_or_scratch(entry)}.'
            )
        digest = sha256_of(path)
        check_hash(entry, digest, path, entry.sha256)
        return path, digest
    path = cached_file(entry)
    known = entry.sha256 or remembered().get(entry.name, {}).get('sha256', '')
    if not path.is_file():
        url = f'{place.rstrip("/")}/{entry.file_name}' if place else entry.url
        if url is None:
            raise CheckpointError(
                f'{entry.name} has no direct address: fetch it from {entry.origin} by hand and put '
                f'it at {path}{_or_scratch(entry)}.'
            )
        try:
            download_once(url, path, known)
        except CheckpointError as error:
            raise CheckpointError(
                f'{str(error).rstrip(".")}; put the file by hand at {path}, name a folder or '
                f'mirror that has it by {PLACE}{_or_scratch(entry)}.'
            ) from None
    digest = sha256_of(path)
    check_hash(entry, digest, path, known)
    if not known or entry.name not in remembered():
        _remember(entry, digest, path)
    return path, digest


def check_hash(entry: PublishedFile, digest: str, path: Path, known: str) -> None:
    """Check the SHA-256 of a file against the known one, or its beginning.

    Raises:
        CheckpointError: If they differ.
    """
    if digest.startswith(known.lower()):
        return
    whose = 'published' if entry.sha256 else f'first seen, {_record()} has it'
    raise CheckpointError(
        f'{path} has the SHA-256 {digest}, not {known} ({whose}): it is damaged or another file; '
        'remove it, and it is fetched again.'
    )


def cached_file(entry: PublishedFile) -> Path:
    """Where a published file is kept as it was published."""
    return cache_folder() / 'published' / entry.file_name


def remembered() -> dict[str, dict]:
    """Hashes of the files that were seen here: name to ``{'sha256', 'size', 'seen'}``."""
    try:
        content = json.loads(_record().read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def convert_published(
    entry: PublishedFile, family: str, source: Path, digest: str
) -> tuple[Conversion, dict]:
    """Convert a published file strictly.

    Args:
        entry (PublishedFile): What the file is said to be.
        family (str): The key map.
        source (Path): The file.
        digest (str): Its SHA-256.

    Returns:
        tuple[Conversion, dict]: The whole model under our names, the backbone under ``backbone.``;
        what to note beside the weights.

    Raises:
        CheckpointError: If it cannot be read, or is not what it is said to be.
    """
    weights = read_weights(source)
    if family == OURS:
        result = Conversion(state=dict(weights))
    else:
        key_map = FAMILIES[family]
        known = (*key_map.options, 'config') if family == entry.family else ()
        options = {name: value for name, value in entry.options.items() if name in known}
        try:
            result = convert(weights, family, 'model', **options)
        except ValueError as error:
            raise CheckpointError(
                f'{source} is not {entry.name} of {entry.origin}: {error}'
            ) from None
        problems = [*result.missing, *result.unexpected, *result.mismatched]
        if problems:
            raise CheckpointError(
                f'{source} is not {entry.name} of {entry.origin}: {len(problems)} tensors differ, '
                f'{", ".join(problems[:4])}; it is kept for you to look at.'
            )
        if family == entry.family and entry.model is not None:
            check_model(entry, result, source)
    meta = dict(
        name=entry.name,
        url=entry.url or entry.origin,
        sha256=digest,
        family=family,
        config=result.config,
        untrained=result.untrained,
        notes=result.notes,
        mmeffvit=__version__,
        **dataset_meta_of(weights.meta),
    )
    return result, meta


def check_model(entry: PublishedFile, result: Conversion, source: Path) -> None:
    """Check that the weights are of the size that the index says, and name the one they are of."""
    found = shapes_of(result.config)
    known = entries()
    if entry.model is None or found == _shapes_of_model(entry.model):
        return
    same_class = [name for name, (cls, _) in known.items() if cls is known[entry.model][0]]
    fitting = [name for name in same_class if _shapes_of_model(name) == found]
    raise CheckpointError(
        f'{source} was got as {entry.name} and should be a {entry.model}, but has the widths and '
        f'depths of {" or ".join(fitting) or "no model of ours"}: the address leads to another '
        'file than the index says.'
    )


def shapes_of(config: Mapping) -> dict[str, torch.Size]:
    """Shapes of the weights of a backbone, without those that depend on the image size."""
    with torch.device('meta'):
        model = MODELS.build({'_scope_': 'mmeffvit', **config})
    outputs = tuple(getattr(model, 'output_layers', ()))
    return {
        key: value.shape
        for key, value in model.state_dict().items()
        if 'position' not in key and not key.startswith(outputs)
    }


def _shapes_of_model(name: str) -> dict[str, torch.Size]:
    model_class, arguments = entries()[name]
    return shapes_of(dict(type=model_class.__name__, **arguments))


def dataset_meta_of(meta: Mapping) -> dict:
    """Classes and palette that a checkpoint notes, as today's frameworks do, if they are plain."""
    noted = meta.get('dataset_meta') or meta
    found = {}
    for key in ('classes', 'palette'):
        value = noted.get(key) or noted.get(key.upper()) if isinstance(noted, Mapping) else None
        if isinstance(value, (list, tuple)) and value:
            kind = str if key == 'classes' else (list, tuple)
            if all(isinstance(item, kind) for item in value):
                found[key] = [item if kind is str else [int(x) for x in item] for item in value]
    return dict(dataset_meta=found) if found else {}


def _record() -> Path:
    return cache_folder() / 'hashes.json'


def _remember(entry: PublishedFile, digest: str, path: Path) -> None:
    """Note the hash of a file that was seen for the first time, where that can be written."""
    try:
        with locked('hashes'):
            note = dict(sha256=digest, size=path.stat().st_size, seen=date.today().isoformat())
            write_json(_record(), {**remembered(), entry.name: note}, indent=1)
    except (CheckpointError, OSError) as error:
        LOGGER.info('the hash of %s is not remembered: %s', entry.name, error)


def _or_scratch(entry: PublishedFile) -> str:
    return f', or {_SCRATCH}' if entry.part in ('backbone', 'classifier') else ''


@cache
def _say_once(address: str, origin: str, digest: str, path: str) -> None:
    LOGGER.info('%s is %s from %s, SHA-256 %s', address, path, origin, digest)


@cache
def _version_of_maps() -> str:
    """Changes with the key maps, so that no conversion of other maps is taken."""
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parent.glob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
