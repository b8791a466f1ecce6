"""Time and peak memory: our ops and layers against named baselines, and whole models.

    python -m benchmarks.run suites quadtree                     # one suite of comparisons
    python -m benchmarks.run suites quadtree slide --only fine   # cases whose name contains 'fine'
    python -m benchmarks.run suites all --json out.json --markdown out.md --plot ratios.png
    python -m benchmarks.run models quadtree_b0 pvtv2_b0 --sizes 224 512x2048 --modes eager compiled
    python -m benchmarks.run models configs/quadtree_b?_imagenet.py --batches 1 8 --plot models.png
    python -m benchmarks.run profile quadtree_b1 --sizes 512   # shares of kinds of operations
    python -m benchmarks.run growth quadtree_b0 vit_t          # cost per pixel from 512 to 4096 px

See the suites in benchmarks/suites; targets and measured figures are in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib
import re
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from benchmarks import growth, harness, models, profiles
from benchmarks.harness import Result, run_case
from benchmarks.report import Results, check_outputs
from mmeffvit.cli.errors import UserError, run_cli

SUITES = Path(__file__).parent / 'suites'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest='command', required=True)

    outputs = argparse.ArgumentParser(add_help=False)
    outputs.add_argument('--threads', type=int, default=1)
    outputs.add_argument('--json', type=Path)
    outputs.add_argument('--markdown', type=Path)
    outputs.add_argument('--plot', type=Path, help='a drawing, PNG by its suffix')

    shared = argparse.ArgumentParser(add_help=False, parents=[outputs])
    shared.add_argument('--rounds', type=int, default=7)
    shared.add_argument('--wall', action='store_true', help='wall-clock instead of CPU time')

    named = argparse.ArgumentParser(add_help=False)
    named.add_argument('names', nargs='+', help='of mmeffvit.list_models(), or config files')
    named.add_argument(
        '--sizes', nargs='+', type=parse_size, default=[(224, 224)],
        help='such as 224, 512x2048 (H x W) or 7x128x128 (T x H x W)',
    )  # fmt: skip

    suites = commands.add_parser('suites', parents=[shared], help='comparisons with baselines')
    suites.add_argument('names', nargs='+', help=f'of {", ".join(suite_names())}, or all')
    suites.add_argument('--only', default='', help='run the cases whose name contains this')
    suites.add_argument('--modes', nargs='+', default=harness.MODES, choices=harness.MODES)
    suites.add_argument('--device', default='cpu')

    compared = commands.add_parser(
        'models', parents=[named, shared], help='any models', description=models.__doc__,
        formatter_class=raw,
    )  # fmt: skip
    compared.add_argument('--batches', nargs='+', type=int, default=[1], help='images in a batch')
    compared.add_argument('--dtypes', nargs='+', default=['float32'], choices=models.DTYPES)
    compared.add_argument('--devices', nargs='+', default=['cpu'])
    compared.add_argument('--modes', nargs='+', default=['eager'], choices=models.MODES)
    compared.add_argument('--measures', nargs='+', default=['latency'], choices=models.MEASURES)
    commands.add_parser(
        'profile', parents=[named, outputs], help='where the time goes',
        description=profiles.__doc__,
    )  # fmt: skip
    growing = commands.add_parser(
        'growth', parents=[outputs], help='cost per pixel as images grow',
        description=growth.__doc__,
    )  # fmt: skip
    growing.add_argument('names', nargs='+', help='as above, or model:option=value')
    growing.add_argument('--sides', nargs='+', type=int, default=[512, 1024, 2048, 4096])
    growing.add_argument('--rounds', type=int, default=2)
    growing.add_argument(
        '--longest', type=float, default=60, help='seconds that the next size may take at most'
    )
    return parser.parse_args()


def parse_size(text: str) -> tuple[int, ...]:
    """``'224'``, ``'512x2048'`` or ``'7x128x128'``."""
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*){0,2}', text):
        raise argparse.ArgumentTypeError(f'{text!r} must be like 224, 512x2048 or 7x128x128')
    sides = tuple(int(side) for side in text.split('x'))
    return sides * 2 if len(sides) == 1 else sides


def suite_names() -> list[str]:
    """Names of the suites that exist."""
    return sorted(path.stem for path in SUITES.glob('[!_]*.py'))


def main() -> int:
    """Measure, print and write; exit code 1 if a model failed."""
    args = parse_args()
    for name, least in (('rounds', 2), ('threads', 1)):
        if getattr(args, name, least) < least:
            raise UserError(f'--{name} {getattr(args, name)} must be at least {least}.')
    check_outputs(args.json, args.markdown, plot=args.plot)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    report = COMMANDS[args.command](args)
    report.show()
    report.write(args.json, args.markdown, args.plot)
    return int(any('failure' in record for record in report.records))


def run_models(args: argparse.Namespace) -> Results:
    """Measure the chosen models."""
    if min(args.batches) < 1:
        raise UserError(f'--batches {args.batches} must be positive.')
    return models.benchmark(
        dict.fromkeys(args.names),
        sizes=args.sizes,
        batches=args.batches,
        dtypes=args.dtypes,
        devices=args.devices,
        modes=args.modes,
        measures=args.measures,
        rounds=args.rounds,
        wall=args.wall,
    )


def run_suites(args: argparse.Namespace) -> Results:
    """Run the chosen suites."""
    names = suite_names() if args.names == ['all'] else args.names
    unknown = set(names) - set(suite_names())
    if unknown:
        raise UserError(
            f'No suite {", ".join(sorted(unknown))}; there are {", ".join(suite_names())}.'
        )
    models.check_device(args.device)
    console = Console(stderr=True)
    results: list[Result] = []
    clock = harness.choose_clock(args.device, args.wall)
    for name in names:
        cases = importlib.import_module(f'benchmarks.suites.{name}').cases()
        chosen = [make for label, make in cases.items() if args.only in label]
        for make in track(chosen, description=name, console=console):
            with torch.device(args.device):
                case = make()
            for mode in case.modes:
                if mode in args.modes:
                    results.append(run_case(case, mode, args.rounds, clock, args.device))
    if not results:
        raise UserError(f'No case has {args.only!r} in its name.')
    environment = dict(harness.environment(), device=args.device)
    return Results(environment, COLUMNS, rows(results), records(results), partial(draw, results))


COLUMNS = (
    'case', 'mode', 'candidate', 'min ms', 'median ms', 'spread', 'time / ours', 'peak MiB',
    'peak / ours', 'error',
)  # fmt: skip


def run_profile(args: argparse.Namespace) -> Results:
    """Profile the chosen models."""
    return profiles.profile_models(dict.fromkeys(args.names), args.sizes)


def run_growth(args: argparse.Namespace) -> Results:
    """Measure the chosen models at growing sizes."""
    sides = sorted(args.sides)
    if sides[0] < 1:
        raise UserError(f'--sides {args.sides} must be positive.')
    return growth.measure_growth(list(dict.fromkeys(args.names)), sides, args.rounds, args.longest)


COMMANDS = dict(suites=run_suites, models=run_models, profile=run_profile, growth=run_growth)


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


def records(results: list[Result]) -> list[dict]:
    """All times, JSON-like."""
    return [
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


def draw(results: list[Result], figure: Figure) -> None:
    """Bars of the ratios of time and of peak memory; an unclear winner has no bar of time."""
    labels, times, peaks = [], [], []
    for result in results:
        for name in list(result.measurements)[1:]:
            labels.append(f'{result.case}, {result.mode}: {name}')
            times.append(result.ratio(name) or 1.0)
            peaks.append(result.memory_ratio(name))
    figure.set_size_inches(14, 1.5 + 0.22 * len(labels))
    places = range(len(labels))
    for axis, ratios, title in zip(
        figure.subplots(1, 2, sharey=True), (times, peaks), ('time / ours', 'peak memory / ours')
    ):
        axis.barh(places, [ratio - 1 for ratio in ratios], left=1)
        axis.axvline(1, color='black', linewidth=1)
        axis.set(title=title, xscale='log', yticks=places, yticklabels=labels)
        axis.grid(axis='x', alpha=0.4)
    axis.invert_yaxis()


if __name__ == '__main__':
    run_cli(main)
