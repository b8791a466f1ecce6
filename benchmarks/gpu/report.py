"""Results of a check as Markdown, JSON and a drawing.

python -m benchmarks.gpu.report gpu_check/results.json      # into benchmarks/RESULTS.md
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.gpu import records
from benchmarks.harness import environment as process_environment
from mmeffvit.utils.atomic import atomic, write_json, write_text

#: Failed tests that the Markdown lists; the JSON holds all.
LISTED = 15
#: Candidates of a kernel that the Markdown lists.
BEST = 6
#: Of Slide attention as published and, which is faster, with its two convolutions merged.
CONVOLUTIONS = ('two convolutions', 'one convolution')
#: Between these lines of the document is what :func:`update` writes.
DOCUMENT = Path(__file__).parents[1] / 'RESULTS.md'
BEGIN, END = '<!-- GPU: written by benchmarks/gpu/report.py -->', '<!-- /GPU -->'


def environment(device: str) -> dict[str, str]:
    """Card, driver and versions."""
    found = dict(process_environment(), device=device)
    try:
        import triton

        found['triton'] = triton.__version__
    except ImportError:
        found['triton'] = 'none'
    query = ['nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader']
    try:
        found['card'] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        found['card'] = platform.processor() or platform.machine()
    found['cuda'] = str(torch.version.cuda)
    return found


def write(out: Path) -> str:
    """Write ``results.json``, ``results.md`` and ``results.png``; returns the Markdown."""
    found = records.read(out / records.LOG)
    by_kind: dict[str, list[dict]] = {}
    for record in found:
        by_kind.setdefault(record['kind'], []).append(record)
    write_json(out / 'results.json', by_kind, indent=1)
    parts = [f'# {" · ".join(_versions(by_kind))}', _parts(by_kind.get('part', []))]
    if 'test' in by_kind:
        parts.append(_tests(by_kind['test']))
    if 'operator' in by_kind:
        parts.append(_operators(by_kind.get('ceiling', []), by_kind['operator']))
    if 'candidate' in by_kind:
        parts.append(_candidates(by_kind['candidate']))
    if 'network' in by_kind:
        parts.append(_networks(by_kind['network']))
    if 'profile' in by_kind:
        parts.append(_profiles(by_kind['profile']))
    if 'operator' in by_kind or 'network' in by_kind:
        parts.append(_targets(by_kind.get('operator', []), by_kind.get('network', [])))
    text = '\n\n'.join([*parts, ' · '.join(_versions(by_kind))]) + '\n'
    write_text(out / 'results.md', text)
    _draw(by_kind, out / 'results.png')
    (out / records.LOG).unlink()
    return text


def update(by_kind: dict[str, list[dict]], document: Path = DOCUMENT) -> None:
    """Put the tables that people ask about between the marks of a document.

    Args:
        by_kind (dict): Content of a ``results.json``.
        document (Path): A Markdown file that holds :data:`BEGIN` and :data:`END`.

    Raises:
        ValueError: If the marks are not there.
    """
    text = document.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'{document} has no lines {BEGIN} and {END}; add them.')
    tests, operators = by_kind.get('test', []), by_kind.get('operator', [])
    count = {o: sum(t['outcome'] == o for t in tests) for o in ('passed', 'failed', 'skipped')}
    networks = by_kind.get('network', [])
    parts = [
        f'{" · ".join(_versions(by_kind))}. Written by `python -m benchmarks.gpu.report`.',
        'Tests on the card: ' + ', '.join(f'{n} {o}' for o, n in count.items()) + '.',
        _targets(operators, networks),
        _operators(by_kind.get('ceiling', []), [o for o in operators if 'forward' in o]),
        _networks([n for n in networks if 'images_per_second' in n]),
        _profiles(by_kind.get('profile', []), 8),
    ]
    section = '\n\n'.join(parts).replace('\n## ', '\n### ').replace('\n# ', '\n### ')
    write_text(document, f'{before}{begin}\n{section}\n{end}{after}')


def main() -> int:
    """Update the document; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('results', type=Path, help='the results.json of a check')
    parser.add_argument('--document', type=Path, default=DOCUMENT, help='Markdown to update')
    args = parser.parse_args()
    try:
        update(json.loads(args.results.read_text()), args.document)
    except (OSError, ValueError, KeyError) as error:
        print(f'{args.results}: {error}', file=sys.stderr)
        return 2
    return 0


def _versions(by_kind: dict) -> list[str]:
    first = by_kind['environment'][0]
    return [
        first['card'],
        *(f'{key} {first[key]}' for key in ('torch', 'triton', 'cuda', 'python')),
    ]


def _table(head: list[str], rows: list[list]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def _parts(parts: list[dict]) -> str:
    return '\n'.join(f'- {p["name"]}: {p["outcome"]}, {p["seconds"]:.0f} s' for p in parts)


def _tests(tests: list[dict]) -> str:
    """Counts and the worst errors of each test function and dtype; then the failures."""
    groups: dict[tuple, list[dict]] = {}
    for test in tests:
        function, _, parameters = test['name'].partition('[')
        function = function.rpartition('/')[2]
        dtypes = [d for d in ('float32', 'bfloat16', 'float16') if f'torch.{d}' in parameters]
        groups.setdefault((function, dtypes[0] if dtypes else ''), []).append(test)
    rows = []
    for (function, dtype), group in groups.items():
        count = {o: sum(t['outcome'] == o for t in group) for o in ('passed', 'failed', 'skipped')}
        worst = [
            max((t['errors'][key] for t in group if 'errors' in t), default=None)
            for key in ('values', 'gradients')
        ]
        errors = ['' if w is None else f'{w:.1e}' for w in worst]
        rows.append([function, dtype, *count.values(), *errors])
    head = ['test', 'dtype', 'passed', 'failed', 'skipped', 'worst value', 'worst gradient']
    failures = [t for t in tests if t['outcome'] == 'failed']
    lines = [f'- {t["name"]}: {_line(t["message"])}' for t in failures[:LISTED]]
    more = [f'- and {len(failures) - LISTED} more'] if len(failures) > LISTED else []
    return '\n'.join(['## Tests\n', _table(head, rows), '', *lines, *more])


def _line(message: str) -> str:
    return ' '.join(message.split())[:200]


def _operators(ceilings: list[dict], operators: list[dict]) -> str:
    units = {'bytes': 'TB/s copied', 'bfloat16': 'TFLOP/s bfloat16', 'float32': 'TFLOP/s float32'}
    limits = ', '.join(f'{c["per_second"] / 1e12:.3g} {units[c["name"]]}' for c in ceilings)
    rows = []
    for o in operators:
        label = [o['name'], o['shape'], o.get('dtype', ''), o.get('candidate', '')]
        if 'failure' in o:
            rows.append([*label, *[''] * 7, _line(o['failure'])])
            continue
        graph = o['forward_graph']
        rows.append([
            *label, _us(o['forward']), '' if graph is None else _us(graph), _us(o['floor']),
            f'{100 * o["bandwidth_share"]:.0f}%/{100 * o["rate_share"]:.0f}%', _us(o['backward']),
            f'{o["peak_both"] / 2**20:.0f}', f'{o["saved"] / 2**20:.1f}', f'{o["error"]:.0e}',
        ])  # fmt: skip
    head = [
        'operator', 'shape', 'dtype', 'candidate', 'fwd us', 'graph us', 'floor us',
        'of copy/product', 'bwd us', 'peak MiB', 'saved MiB', 'error',
    ]  # fmt: skip
    return '\n'.join([f'## Operators\n\nCeilings: {limits}\n', _table(head, rows)])


def _candidates(candidates: list[dict]) -> str:
    """The fastest candidates of each kernel, and how many failed."""
    groups: dict[tuple, list[dict]] = {}
    for candidate in candidates:
        groups.setdefault((candidate['case'], candidate['kernel']), []).append(candidate)
    rows = []
    for label, group in groups.items():
        timed = sorted((c for c in group if 'time' in c), key=lambda c: c['time'])
        rows += [
            [*label, _us(c['time']), f'{c["error"]:.1e}', _settings(c['config'])]
            for c in timed[:BEST]
        ]
        failures: dict[str, int] = {}
        for candidate in group:
            if 'failure' in candidate:
                reason = _line(candidate['failure'])[:80]
                failures[reason] = failures.get(reason, 0) + 1
        rows += [[*label, '', '', f'{count} {reason}'] for reason, count in failures.items()]
    head = ['case', 'kernel', 'us', 'error', 'candidate']
    return '\n'.join(['## Candidates\n', _table(head, rows)])


def _settings(config: dict) -> str:
    return ' '.join(f'{key}={value}' for key, value in config.items())


def _us(seconds: float) -> str:
    return f'{1e6 * seconds:.4g}'


def _networks(networks: list[dict]) -> str:
    rows = []
    for n in networks:
        label = [n['model'], n['mode'], n['measure']]
        if 'failure' in n:
            rows.append([*label, '', '', '', _line(n['failure'])])
            continue
        shape = 'x'.join(map(str, n['shape']))
        speed, peak = f'{n["images_per_second"]:.0f}', f'{n["peak"] / 2**20:.0f}'
        rows.append([*label, shape, speed, peak, ''])
    head = ['model', 'mode', 'measure', 'input', 'images/s', 'peak MiB', '']
    return '\n'.join(['## Models, bfloat16 autocast\n', _table(head, rows)])


def _profiles(profiles: list[dict], largest: int | None = None) -> str:
    """Of each model the time of a call, of its kernels in sum, and of the largest of them."""
    rows = []
    for p in profiles:
        label = [p['model'], p['measure']]
        if 'failure' in p:
            rows.append([*label, '', '', _line(p['failure'])])
            continue
        total = f'the call; kernels in sum {1e3 * p["busy"]:.1f} ms'
        rows.append([*label, f'{1e3 * p["seconds"]:.1f}', f'{p["launches"]:.0f}', total])
        rows += [
            [*label, f'{1e3 * k["seconds"]:.2f}', f'{k["launches"]:.0f}', _kernel(k['name'])]
            for k in p['kernels'][:largest]
        ]
    head = ['model', 'measure', 'ms', 'launches', 'kernel']
    return '\n'.join(['## Where the time goes\n', _table(head, rows)])


def _kernel(name: str) -> str:
    """The name of a kernel without what the tables have no room for."""
    for filler in ('void ', 'at::native::', '(anonymous namespace)::', 'at_cuda_detail::', 'cub::'):
        name = name.replace(filler, '')
    return name.replace('|', '/')[:80]


def _targets(operators: list[dict], networks: list[dict]) -> str:
    """The targets, each with what was measured; a line of dashes where it was not."""
    times = {
        (o['name'], tuple(o['shape']), o['candidate']): o
        for o in operators
        if 'forward' in o and o['dtype'] == 'bfloat16'
    }

    def operator(name: str, *shape: int) -> tuple[dict, ...]:
        baselines = CONVOLUTIONS if 'Slide' in name else ('(a) per-query',)
        ours, *others = (times.get((name, shape, c), {}) for c in ('triton', *baselines))
        return ours, next(filter(None, others), {})

    ours, published = operator('QuadTree fine level, topk=0', 64, 3136, 64, 8, 0)
    small, small_published = operator('Slide, k=3', 64, 2, 32, 56, 3)
    large, large_published = operator('Slide, k=7', 64, 3, 32, 56, 7)

    def throughput(measure: str, mode: str = 'eager') -> float | None:
        speeds = {
            n['model']: n['images_per_second']
            for n in networks
            if n['measure'] == measure and n['mode'] == mode and 'images_per_second' in n
        }
        return _ratio(speeds.get('quadtree_b2'), speeds.get('pvtv2_b2'))

    backward = _ratio(ours.get('backward'), ours.get('forward'))
    saved = _ratio(published.get('saved'), ours.get('saved'))
    slide_3 = _ratio(small_published.get('forward'), small.get('forward'))
    slide_7 = _ratio(large_published.get('forward'), large.get('forward'))
    rows = [
        ['QuadTree fine level, forward (us)', '<= 90', _best(ours)],
        ['its backward over its forward', '<= 3.5', backward],
        ['per-query over ours, both ways', '>= 10', _ratio(_both(published), _both(ours))],
        ['bytes saved for backward, per-query over ours', '>= 40', saved],
        ['QuadTree-b2 over PVTv2-b2, inference', '>= 0.7', throughput('latency')],
        ['the same as CUDA graphs', '', throughput('latency', 'graph')],
        ['QuadTree-b2 over PVTv2-b2, training', '>= 0.6', throughput('training')],
        ['Slide k=3, forward (us)', '<= 80', _best(small)],
        ['convolutions over Slide k=3', '>= 8', slide_3],
        ['convolutions over Slide k=7', '>= 3', slide_7],
    ]
    cells = [[*row[:2], '--' if row[2] is None else f'{row[2]:.3g}'] for row in rows]
    head = ['batch 64, 56x56x64, bfloat16', 'target', 'measured']
    return '\n'.join(['## Targets\n', _table(head, cells)])


def _best(operator: dict) -> float | None:
    """Microseconds of a forward pass, without launch gaps if that was measured."""
    seconds = operator.get('forward_graph') or operator.get('forward')
    return None if seconds is None else 1e6 * seconds


def _both(operator: dict) -> float | None:
    return operator['forward'] + operator['backward'] if operator else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _draw(by_kind: dict, path: Path) -> None:
    """Bars of the operators' forward times and of the models' throughput."""
    operators = [o for o in by_kind.get('operator', []) if 'forward' in o]
    networks = [n for n in by_kind.get('network', []) if 'images_per_second' in n]
    figure = Figure(figsize=(14, 2 + 0.25 * max(len(operators), len(networks), 4)))
    figure.set_layout_engine('constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    labels = [f'{o["name"]} {o["shape"]} {o["dtype"]} {o["candidate"]}' for o in operators]
    left.barh(labels, [1e6 * o['forward'] for o in operators], label='forward')
    left.plot([1e6 * o['floor'] for o in operators], labels, 'k|', label='floor')
    left.set(xscale='log', xlabel='microseconds', title='operators')
    labels = [f'{n["model"]} {n["mode"]} {n["measure"]}' for n in networks]
    right.barh(labels, [n['images_per_second'] for n in networks])
    right.set(xlabel='images per second', title='models')
    for axes in (left, right):
        axes.invert_yaxis()
        axes.tick_params(labelsize='x-small')
    figure.suptitle(' · '.join(_versions(by_kind)), fontsize='small')
    with atomic(path) as partial:
        figure.savefig(partial, dpi=110)


if __name__ == '__main__':
    sys.exit(main())
