"""Write the measured tables into benchmarks/RESULTS.md, and the plots of docs/benchmarks.md.

    python -m benchmarks.summary            # rewrite both
    python -m benchmarks.summary --check    # exit with 1 if a table is stale

The whole tables are in benchmarks/results/NAME.json, as ``--json`` of the benchmark command writes
them. A line ``<!-- results NAME: PATTERN -->`` of the document is followed by those rows of
NAME.json whose case matches the pattern, up to ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import growth
from benchmarks.report import table_lines
from mmeffvit.cli.errors import UserError, run_cli
from mmeffvit.utils.atomic import atomic, write_text

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / 'results'
DOCUMENT = Path(__file__).parent / 'RESULTS.md'
PLOTS = ROOT / 'docs' / 'images' / 'benchmarks'
BLOCK = re.compile(r'(<!-- results (\w+): (.+?) -->\n).*?(<!-- end -->)', re.DOTALL)
RATIO = 'time / ours'
#: Columns of a comparison that the document shows.
KEPT = ('case', 'mode', 'candidate', RATIO, 'peak / ours')


def main() -> int:
    """Rewrite or check; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args()
    text = DOCUMENT.read_text()
    filled = fill(text)
    if args.check:
        if filled != text:
            print(f'{DOCUMENT.name} is stale: run python -m benchmarks.summary', file=sys.stderr)
        return int(filled != text)
    write_text(DOCUMENT, filled)
    PLOTS.mkdir(parents=True, exist_ok=True)
    for _, name, pattern, *_ in BLOCK.findall(filled):
        if name in DRAWINGS:
            figure = Figure(layout='constrained')
            FigureCanvasAgg(figure)
            DRAWINGS[name](figure, select(name, pattern))
            with atomic(PLOTS / f'{name}.png') as partial:
                figure.savefig(partial, dpi=90)
    return 0


def read(name: str) -> dict:
    """Content of a file of results: ``environment``, ``columns``, ``rows``, perhaps ``results``.

    Raises:
        UserError: If there is none of this name.
    """
    path = RESULTS / f'{name}.json'
    if not path.is_file():
        raise UserError(f'{DOCUMENT.name} names {name}, but there is no {path.name}.')
    return json.loads(path.read_text())


def select(name: str, pattern: str) -> dict:
    """The same content with the rows whose case matches a pattern.

    Raises:
        UserError: If there are none.
    """
    content = read(name)
    rows = [row for row in _spelled_out(content['rows']) if re.search(pattern, row[0])]
    if not rows:
        raise UserError(f'No case of {name}.json matches {pattern!r}.')
    return dict(content, rows=rows)


def fill(text: str) -> str:
    """Put the tables into the blocks of a document."""
    return BLOCK.sub(lambda found: found[1] + _table(select(found[2], found[3])) + found[4], text)


def _table(content: dict) -> str:
    columns, rows = content['columns'], content['rows']
    if RATIO in columns:  # of comparisons the long form is in the JSON
        kept = [i for i, column in enumerate(columns) if column in KEPT]
        rows = [row for row in rows if row[columns.index(RATIO)] != '1']
        columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    lines = [f'Load average {content["environment"]["load average"]}.', '']
    return '\n'.join([*lines, *table_lines(columns, rows)]) + '\n'


def _spelled_out(rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Rows with the case and mode that those above state."""
    above: list[str] = ['', '']
    for row in rows:
        above = [cell or last for cell, last in zip(row[:2], above)]
        yield [*above, *row[2:]]


def draw_ratios(figure: Figure, content: dict) -> None:
    """Bars of time and peak memory over ours; an unclear winner has no bar of time."""
    columns = content['columns']
    rows = [row for row in content['rows'] if row[columns.index(RATIO)] != '1']
    labels = [', '.join(row[:2]) + ': ' + row[2] for row in rows]
    figure.set_size_inches(13, 1 + 0.2 * len(rows))
    for axis, name in zip(figure.subplots(1, 2, sharey=True), (RATIO, 'peak / ours')):
        cells = [row[columns.index(name)].rstrip('x') for row in rows]
        widths = [0.0 if cell == 'unclear' else float(cell) - 1 for cell in cells]
        axis.barh(labels, widths, left=1)
        axis.axvline(1, color='black', linewidth=1)
        axis.set(title=name, xscale='log')
        axis.tick_params(axis='y', labelsize=7)
        axis.grid(axis='x', alpha=0.4)
    axis.invert_yaxis()


def draw_growth(figure: Figure, content: dict) -> None:
    """Lines over the side of the image, one per model."""
    growth.draw(content['results'], figure)


def draw_models(figure: Figure, content: dict) -> None:
    """Forward time over multiply-adds."""
    columns = content['columns']
    costs = [float(row[columns.index('FLOPs (G)')]) for row in content['rows']]
    times = [float(row[columns.index('forward ms')].split()[0]) for row in content['rows']]
    figure.set_size_inches(8, 5)
    axis = figure.subplots()
    axis.plot(costs, times, 'o')
    for row, cost, time in zip(content['rows'], costs, times):
        axis.annotate(row[0], (cost, time), (4, 4), textcoords='offset points', fontsize=8)
    axis.set(xlabel='FLOPs (G)', ylabel='forward, 224 px (ms, one thread)', xlim=(0, None))
    axis.set(ylim=(0, None))
    axis.grid(alpha=0.4)


DRAWINGS: dict[str, Callable[[Figure, dict], None]] = {
    **dict.fromkeys(
        ('hosts', 'quadtree', 'slide', 'dualtoken', 'lookupvit', 'skipat', 'denoising', 'training'),
        draw_ratios,
    ),
    'growth': draw_growth,
    'models': draw_models,
}

if __name__ == '__main__':
    run_cli(main)
