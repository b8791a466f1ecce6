#!/usr/bin/env python
"""List, fetch and check the published weights that are loaded by name.

    tools/weights.py list 'retinanet*'
    tools/weights.py get quadtree_b2_dense retinanet_quadtree_b2_coco --out weights
    tools/weights.py info retinanet_quadtree_b2_coco
    tools/weights.py verify

For machines without network, `get --out DIR` on one that has it, copy DIR, and set
MMEFFVIT_WEIGHTS=DIR there. Exit code 0: all is well; 1: a file is damaged, it is named; 2: the
command or an address is wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from fnmatch import filter as matching
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmeffvit.checkpoints import CheckpointError, read_weights
from mmeffvit.checkpoints.download import sha256_of
from mmeffvit.checkpoints.index import PublishedFile, find_published, published_files
from mmeffvit.checkpoints.published import (
    PLACE,
    cached_file,
    check_hash,
    convert_published,
    obtain,
    remembered,
)
from mmeffvit.checkpoints.summary import summarise
from mmeffvit.cli.errors import UserError, run_cli, user_input
from mmeffvit.cli.options import Parser, output_folder
from mmeffvit.utils.atomic import atomic


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    listing = commands.add_parser('list', help='list names')
    listing.add_argument('pattern', nargs='?', default='*', help="shell pattern, such as 'swin*'")
    get = commands.add_parser('get', help='fetch files, check them and convert them')
    get.add_argument('names', nargs='+', metavar='NAME', help='names or shell patterns')
    get.add_argument('--out', type=output_folder, metavar='DIR', help='copy the files here')
    info = commands.add_parser('info', help='say what a name or a file is')
    info.add_argument('source', metavar='NAME_OR_FILE')
    verify = commands.add_parser('verify', help='compute the hashes of the files that are here')
    verify.add_argument('names', nargs='*', metavar='NAME', help='by default all')
    return parser.parse_args()


def main() -> int:
    """Run one of the commands."""
    args = parse_args()
    with user_input():
        if args.command == 'list':
            return show_list(args.pattern)
        if args.command == 'get':
            return get(list(named(args.names)), args.out)
        if args.command == 'info':
            return show_info(args.source)
        return verify([find_published(name) for name in args.names])


def named(names: list[str]) -> Iterator[PublishedFile]:
    """The files of names and patterns."""
    for name in names:
        found = matching(published_files(), name)
        yield from map(find_published, found or [name])


def show_list(pattern: str) -> int:
    """Print the names that match, what they are, and whether they are here."""
    found = matching(published_files(), pattern)
    if not found:
        raise UserError(f'No published weights match {pattern!r}: see tools/weights.py list.')
    table = Table('name', 'part', 'family', 'published', 'use', 'here')
    for name in found:
        entry = find_published(name)
        here = 'yes' if place_of(entry).is_file() else 'by hand' if entry.url is None else ''
        table.add_row(name, entry.part, entry.family, entry.figures, entry.use, here)
    console().print(table)
    return 0


def get(entries: list[PublishedFile], out: Path | None) -> int:
    """Fetch, check and convert every file; copy it as it was published."""
    for entry in entries:
        path, digest = obtain(entry)
        if out is None:
            read_weights(entry.address)
        else:
            convert_published(entry, entry.family, path, digest)
            if out.resolve() != path.parent.resolve():
                with atomic(out / entry.file_name) as partial:
                    shutil.copyfile(path, partial)
        console().print(f'{entry.name}: {out / entry.file_name if out else path}, SHA-256 {digest}')
    return 0


def show_info(source: str) -> int:
    """Print what the index says of a name, and what is in the file, if it is here."""
    lines: dict[str, object] = {}
    path = Path(source)
    if not path.is_file():
        entry = find_published(source.removeprefix('mmeffvit://'))
        lines = {
            'name': entry.address,
            'use': entry.use,
            'family': entry.family,
            'part': entry.part,
            'model': entry.model or 'of no name here',
            'configs': ', '.join(entry.configs),
            'published': entry.figures,
            'address': entry.url or f'none, fetch it by hand from {entry.origin}',
            'origin': entry.origin,
            'licence': entry.license or 'not checked, see the origin',
            'options': ', '.join(f'{k}={v!r}' for k, v in entry.options.items()),
            'note': entry.note,
            'published SHA-256': entry.sha256 and f'{entry.sha256}…',
        }
        path = place_of(entry)
        lines['file'] = str(path) if path.is_file() else f'not here; it is kept at {path}'
    if path.is_file():
        lines.update(summarise(path))
    for name, value in lines.items():
        if value:
            console().print(f'{name}: {value}', markup=False)
    return 0


def verify(entries: list[PublishedFile]) -> int:
    """Check the hashes of the files that are here; returns 1 if one is wrong."""
    here = entries or [e for e in published_files().values() if place_of(e).is_file()]
    wrong = 0
    for entry in here:
        path = place_of(entry)
        if not path.is_file():
            raise UserError(f'{entry.name} is not here: tools/weights.py get {entry.name}.')
        known = entry.sha256 or remembered().get(entry.name, {}).get('sha256', '')
        try:
            check_hash(entry, sha256_of(path), path, known)
        except CheckpointError as error:
            wrong += 1
            print(f'wrong: {error}', file=sys.stderr)
        else:
            how = 'as published' if entry.sha256 else 'as first seen' if known else 'not known yet'
            console().print(f'{entry.name}: {how}', markup=False)
    console().print(f'{len(here) - wrong} of {len(here)} files are right')
    return int(wrong > 0)


def place_of(entry: PublishedFile) -> Path:
    """Where a file is, in the folder that stands in for the network or in the cache."""
    place = os.environ.get(PLACE, '')
    if place and '://' not in place:
        return Path(place).expanduser() / entry.file_name
    return cached_file(entry)


def console() -> Console:
    """Lines that are not broken, and tables as wide as a terminal or as they need."""
    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 200)


if __name__ == '__main__':
    run_cli(main)
