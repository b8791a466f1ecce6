#!/usr/bin/env python
"""Compare our ops, layers and backbones with named baselines, side by side in one process.

    tools/bench/run.py quadtree                       # one suite
    tools/bench/run.py quadtree slide --only fine     # cases whose name contains 'fine'
    tools/bench/run.py all --json out.json --markdown out.md

See the suites in tools/bench/suites; targets and measured figures are in tools/bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from mmeffvit.utils.cli import UserError, run_cli
from tools.bench.harness import MODES, Result, environment, run_case

SUITES = Path(__file__).parent / 'suites'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('suites', nargs='+', help=f'of {", ".join(suite_names())}, or all')
    parser.add_argument('--only', default='', help='run the cases whose name contains this')
    parser.add_argument('--modes', nargs='+', default=list(MODES), choices=MODES)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--wall', action='store_true', help='wall-clock instead of CPU time')
    parser.add_argument('--json', type=Path)
    parser.add_argument('--markdown', type=Path)
    return parser.parse_args()


def suite_names() -> list[str]:
    """Names of the suites that exist."""
    return sorted(path.stem for path in SUITES.glob('[!_]*.py'))


def main() -> None:
    """Run the chosen suites and print what they measured."""
    args = parse_args()
    names = suite_names() if args.suites == ['all'] else args.suites
    unknown = set(names) - set(suite_names())
    if unknown:
        raise UserError(
            f'No suite {", ".join(sorted(unknown))}; there are {", ".join(suite_names())}.'
        )
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    console = Console(stderr=True)
    results: list[Result] = []
    clock = time.perf_counter if args.wall else time.process_time
    for name in names:
        cases = importlib.import_module(f'tools.bench.suites.{name}').cases()
        chosen = [make for label, make in cases.items() if args.only in label]
        for make in track(chosen, description=name, console=console):
            case = make()
            for mode in case.modes:
                if mode in args.modes:
                    results.append(run_case(case, mode, args.rounds, clock))
    if not results:
        raise UserError(f'No case has {args.only!r} in its name.')
    Console().print(environment())
    Console(width=150).print(table(results))
    if args.json:
        args.json.write_text(json.dumps(as_records(results), indent=1))
    if args.markdown:
        args.markdown.write_text(markdown(results))


def rows(results: list[Result]) -> list[list[str]]:
    """One row per candidate, in the order of COLUMNS."""
    out = []
    for result in results:
        for index, (name, measured) in enumerate(result.measurements.items()):
            ratio = result.ratio(name)
            out.append(
                [
                    result.case if index == 0 else '',
                    result.mode if index == 0 else '',
                    name,
                    f'{1e3 * measured.minimum:.1f}',
                    f'{1e3 * measured.median:.1f}',
                    f'{100 * measured.spread:.0f}%',
                    '1' if index == 0 else 'unclear' if ratio is None else f'{ratio:.2f}x',
                    f'{measured.peak / 2**20:.1f}',
                    '1' if index == 0 else f'{result.memory_ratio(name):.2f}x',
                    f'{result.errors[name]:.0e}' if name in result.errors else '',
                ]
            )
    return out


COLUMNS = (
    'case', 'mode', 'candidate', 'min ms', 'median ms', 'spread', 'time / ours', 'peak MiB',
    'peak / ours', 'error',
)  # fmt: skip


def table(results: list[Result]) -> Table:
    """The rows for a terminal."""
    out = Table()
    for column in COLUMNS:
        out.add_column(column, no_wrap=True)
    for row in rows(results):
        out.add_row(*row)
    return out


def markdown(results: list[Result]) -> str:
    """The rows and the environment as Markdown."""
    lines = [f'- {key}: {value}' for key, value in environment().items()]
    lines += ['', '| ' + ' | '.join(COLUMNS) + ' |', '|' + ' --- |' * len(COLUMNS)]
    lines += ['| ' + ' | '.join(row) + ' |' for row in rows(results)]
    return '\n'.join(lines) + '\n'


def as_records(results: list[Result]) -> dict:
    """All times and the environment, JSON-like."""
    records = [
        dict(
            case=result.case,
            mode=result.mode,
            candidate=name,
            times=measured.times,
            peak=measured.peak,
            ratio=result.ratio(name),
        )
        for result in results
        for name, measured in result.measurements.items()
    ]
    return dict(environment=environment(), results=records)


if __name__ == '__main__':
    run_cli(main)
