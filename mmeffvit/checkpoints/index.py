"""Index of the published weights, ``published.json``: one entry per file of a public repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .inspection import CheckpointError

if TYPE_CHECKING:
    from mmengine.config import Config

#: Address scheme of the published weights: ``mmeffvit://NAME``, or ``mmeffvit://NAME/FAMILY``.
SCHEME = 'mmeffvit://'
#: In place of a checkpoint: the weights that were published for the config.
WORD = 'published'
#: Family of files that have our names already.
OURS = 'mmeffvit'


@dataclass(frozen=True)
class PublishedFile:
    """A published file.

    Attributes:
        name (str): Its name here.
        family (str): Key map that converts it, one of :data:`~mmeffvit.checkpoints.FAMILIES`, or
            ``'mmeffvit'`` if it has our names.
        part (str): ``'backbone'``, ``'classifier'``, ``'detector'``, ``'segmentor'``,
            ``'denoiser'`` or ``'matcher'``.
        use (str): What it is for.
        origin (str): Page of the code or model that published it; the source of ``results``.
        url (str, optional): Direct address; None if it has to be fetched by hand from ``origin``.
        model (str, optional): Name of the backbone or denoiser in :func:`mmeffvit.list_models`.
        configs (tuple[str, ...]): Configs whose whole model it fills.
        results (Mapping[str, float]): Published figures.
        license (str, optional): Licence that the origin states; None if it was not checked.
        sha256 (str): SHA-256 of the file in hexadecimal, or its beginning; empty if unknown.
        options (Mapping[str, Any]): Options of :func:`~mmeffvit.checkpoints.convert`.
        suffix (str): Suffix of the file, where no address tells it.
        note (str): What else to know.
    """

    name: str
    family: str
    part: str
    use: str
    origin: str
    url: str | None = None
    model: str | None = None
    configs: tuple[str, ...] = ()
    results: Mapping[str, float] = field(default_factory=dict)
    license: str | None = None
    sha256: str = ''
    options: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ''
    note: str = ''

    @property
    def address(self) -> str:
        """Address of the weights wherever a checkpoint is named."""
        return SCHEME + self.name

    @property
    def file_name(self) -> str:
        """Name of the file in the cache, and in folders and mirrors that stand in for the network.

        The published names are not unique.
        """
        return self.name + (self.suffix or PurePosixPath(self.url or '').suffix)

    @property
    def figures(self) -> str:
        """The published figures as text."""
        return ', '.join(f'{metric} {value}' for metric, value in self.results.items())


@cache
def published_files() -> dict[str, PublishedFile]:
    """Read the index."""
    content = json.loads(Path(__file__).with_name('published.json').read_text(encoding='utf-8'))
    return {
        name: PublishedFile(name=name, **{**entry, 'configs': tuple(entry.get('configs', ()))})
        for name, entry in content.items()
    }


def find_published(name: str) -> PublishedFile:
    """Return an entry of the index.

    Raises:
        CheckpointError: If there is none of the name.
    """
    known = published_files()
    if name not in known:
        near = get_close_matches(name, known)
        hint = f'did you mean {" or ".join(near)}?' if near else ''
        raise CheckpointError(
            f'No published weights are called {name!r}{": " + hint if hint else "."} '
            'tools/weights.py list names all.'
        )
    return known[name]


def split_address(address: str) -> tuple[PublishedFile, str]:
    """Split ``mmeffvit://NAME[/FAMILY]`` into the file and the key map that converts it."""
    name, _, family = address.removeprefix(SCHEME).partition('/')
    entry = find_published(name)
    return entry, family or entry.family


def published_for(config: str) -> PublishedFile | None:
    """The published whole model of a config, by the config's name without suffix."""
    return next((file for file in published_files().values() if config in file.configs), None)


def published_model(name: str) -> PublishedFile:
    """The published weights of a model of :func:`mmeffvit.list_models`.

    Raises:
        CheckpointError: If none have its name; those of the same architecture are named.
    """
    files = published_files()
    if name in files and files[name].model == name:
        return files[name]
    others = [
        file.address
        for file in files.values()
        if file.model == name and file.part in ('backbone', 'classifier')
    ]
    hint = f'; pretrained takes {", ".join(map(repr, others))} of the same size' if others else ''
    raise CheckpointError(f'No weights called {name} are published{hint}.')


def resolve(checkpoint: str | Path, config: str | Path | Config | None) -> str:
    """Replace the word ``published`` by the address of a config's published weights.

    Args:
        checkpoint (str | Path): A checkpoint of any kind, or ``published``.
        config (str | Path | Config, optional): The config, or its file.

    Raises:
        CheckpointError: If none are published for the config.
    """
    if str(checkpoint) != WORD:
        return str(checkpoint)
    file = config if isinstance(config, (str, Path)) else getattr(config, 'filename', None)
    name = Path(file or '').stem
    entry = published_for(name)
    if entry is None:
        raise CheckpointError(
            f'No weights are published for the config {name or "without a name"}: give a file, a '
            'URL or mmeffvit://NAME; tools/weights.py list says what there is.'
        )
    return entry.address
