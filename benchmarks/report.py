"""What a benchmark writes: a table for the terminal and Markdown, JSON, and a drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mmeffvit.cli.errors import UserError
from mmeffvit.utils.atomic import atomic, write_json, write_text


@dataclass(frozen=True)
class Results:
    """Results of one command.

    Attributes:
        environment (dict[str, str]): What the figures depend on.
        columns (Sequence[str]): Heads of the table.
        rows (list[list[str]]): Its cells.
        records (list[dict]): All that was measured, JSON-like; ``failure`` says why it
            was not.
        draw (Callable): ``draw(figure)``.
    """

    environment: dict[str, str]
    columns: Sequence[str]
    rows: list[list[str]]
    records: list[dict]
    draw: Callable[[Figure], None]

    def show(self) -> None:
        """Print environment and table."""
        Console().print(self.environment)
        table = Table(*self.columns)
        for column in table.columns:
            column.no_wrap = True
        for row in self.rows:
            table.add_row(*row)
        Console(width=180).print(table)
        for record in self.records:
            if 'failure' in record:
                print(f'{record["model"]}, {record["mode"]} failed: {record["failure"]}')

    def write(self, json_path: Path | None, markdown: Path | None, plot: Path | None) -> None:
        """Write the files that were asked for."""
        if json_path:
            content = dict(
                environment=self.environment,
                columns=self.columns,
                rows=self.rows,
                results=self.records,
            )
            write_json(json_path, content, indent=1)
        if markdown:
            lines = [f'- {key}: {value}' for key, value in self.environment.items()]
            lines += ['', *table_lines(self.columns, self.rows)]
            write_text(markdown, '\n'.join(lines) + '\n')
        if plot:
            figure = Figure(layout='constrained')
            FigureCanvasAgg(figure)
            self.draw(figure)
            with atomic(plot) as partial:
                figure.savefig(partial, dpi=150)


def check_outputs(*paths: Path | None, plot: Path | None) -> None:
    """Make the folders of the files, before anything is measured.

    Raises:
        UserError: If the drawing has a suffix that cannot be drawn.
    """
    if plot and plot.suffix not in ('.png', '.svg', '.pdf'):
        raise UserError(f'--plot {plot} must end in .png, .svg or .pdf.')
    for path in (*paths, plot):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [_line(columns), '|' + ' --- |' * len(columns), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'
