"""Curves of a run, from the scalars that mmengine logs."""

import json
from pathlib import Path

from mmeffvit.utils.atomic import atomic


def read_scalars(work_dir: str | Path) -> list[dict]:
    """Read all scalars of a work directory in the order of their steps.

    A run that was resumed has one file per start; where they overlap, the later one counts. A line
    that is being written is left out.

    Args:
        work_dir (str | Path): Work directory of a run.

    Returns:
        list[dict]: Training records have ``loss`` and ``step`` (iteration); validation records
        have metrics and ``step`` (epoch or iteration).
    """
    records: dict[tuple[bool, int], dict] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            records['loss' in record, record['step']] = record
    return [records[key] for key in sorted(records)]


def plot_training(
    work_dir: str | Path, metrics: dict[str, str], out: str | Path, title: str = ''
) -> None:
    """Draw the losses and metrics of a run.

    Args:
        work_dir (str | Path): Work directory of the run.
        metrics (dict[str, str]): Names of validation metrics and their labels in the drawing.
        out (str | Path): The PNG file.
        title (str): Title of the drawing.

    Raises:
        ValueError: If nothing was logged.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_scalars(work_dir)
    train = [record for record in records if 'loss' in record]
    val = [record for record in records if 'loss' not in record]
    if not train:
        raise ValueError(f'{work_dir} holds no logged losses: train first.')
    figure = Figure(figsize=(10, 4), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    losses = [key for key in train[0] if key.startswith('loss')]
    for key in losses:
        left.plot([r['step'] for r in train], [r[key] for r in train], label=key)
    left.set(xlabel='iteration', ylabel='loss', ylim=(0, None))
    for key, label in metrics.items():
        points = [(record['step'], record[key]) for record in val if key in record]
        right.plot(*zip(*points), marker='o', label=label)
    right.set(xlabel='epoch', ylabel='validation', ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.suptitle(title)
    with atomic(out) as partial:
        figure.savefig(partial, dpi=110)
