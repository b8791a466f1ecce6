#!/usr/bin/env python
"""Measure parameters and FLOPs of every config, and write the model tables from the metafiles.

    scripts/update_model_zoo.py             # measure what has no figures yet, write the tables
    scripts/update_model_zoo.py --remeasure # measure everything again
    scripts/update_model_zoo.py --check     # exit code 1 if a table or a metafile is stale

Results in the metafiles are the authors'; each names its source. Sizes and FLOPs (multiply-adds,
attention included) are measured here on meta tensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import yaml
from mmengine.config import Config
from rich.progress import track

import mmeffvit  # noqa: F401  (configs may inherit by package name)
from mmeffvit.analysis import count_config
from mmeffvit.analysis.models import DEFAULT_SIZES, FALLBACK_SIZE
from mmeffvit.checkpoints.index import SCHEME, published_for
from mmeffvit.cli.errors import UserError, run_cli
from mmeffvit.utils.atomic import write_text

ROOT = Path(__file__).parents[1]
METAFILES = ROOT / 'configs' / 'metafiles'
INDEX = ROOT / 'model-index.yml'
BEGIN, END = '<!-- models:begin -->', '<!-- models:end -->'
COLUMNS = (
    'config', 'framework', 'params (M)', 'FLOPs (G)', 'at', 'published', 'source', 'recipe',
    'checkpoints',
)  # fmt: skip


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--remeasure', action='store_true', help='measure all configs again')
    parser.add_argument('--check', action='store_true', help='write nothing, say what is stale')
    return parser.parse_args()


def main() -> int:
    """Measure, write or check."""
    args = parse_args()
    metafiles = {path: yaml.safe_load(path.read_text()) for path in imported()}
    stale = check_listing(metafiles)
    if stale:
        raise UserError(' '.join(stale))
    if not args.check:
        entries = [e for content in metafiles.values() for e in content['Models']]
        missing = [e for e in entries if args.remeasure or 'FLOPs' not in e.get('Metadata', {})]
        for entry in track(missing, description='measuring'):
            measure(entry)
        for entry in entries:
            name_weights(entry)
        for path, content in metafiles.items():
            write_text(path, dump(content))
    pages = {
        INDEX: index(metafiles),
        ROOT / 'docs' / 'model_zoo.md': zoo_page(metafiles),
        ROOT / 'README.md': readme(metafiles),
    }
    if args.check:
        outdated = [path.name for path, text in pages.items() if path.read_text() != text]
        if outdated:
            print(f'stale: {", ".join(outdated)}; run scripts/update_model_zoo.py')
        return bool(outdated)
    for path, text in pages.items():
        write_text(path, text)
    return 0


def imported() -> list[Path]:
    """The metafiles in the order of the index, which is the order of the tables; new ones last."""
    listed = [ROOT / path for path in yaml.safe_load(INDEX.read_text())['Import']]
    found = sorted(METAFILES.glob('*.yml'))
    return [path for path in listed if path in found] + [p for p in found if p not in listed]


def index(metafiles: Iterable[Path]) -> str:
    """``model-index.yml``, by which ``mim`` finds the metafiles."""
    return ''.join(['Import:\n', *(f'  - {path.relative_to(ROOT)}\n' for path in metafiles)])


def check_listing(metafiles: dict[Path, dict]) -> list[str]:
    """Say which configs no metafile lists, lists without a file, or with no word on the recipe."""
    listed = [entry['Config'] for content in metafiles.values() for entry in content['Models']]
    existing = {
        f'configs/{path.name}'
        for path in (ROOT / 'configs').glob('*.py')
        if '_deprecation_' not in path.read_text()
    }
    problems = [f'{config} is in no metafile.' for config in sorted(existing - set(listed))]
    problems += [f'{config} is listed but absent.' for config in sorted(set(listed) - existing)]
    problems += [
        f'{c} is listed twice.' for c in sorted({c for c in listed if listed.count(c) > 1})
    ]
    problems += [
        f'{entry["Name"]} has no Recipe: say whose it is.'
        for content in metafiles.values()
        for entry in content['Models']
        if not entry.get('Recipe')
    ]
    problems += [
        f'model-index.yml does not import {path.name}.'
        for path in sorted(METAFILES.glob('*.yml'))
        if path not in metafiles
    ]
    return problems


def measure(entry: dict) -> None:
    """Fill in size and cost of one model, in place."""
    config = Config.fromfile(ROOT / entry['Config'])
    metadata = entry.setdefault('Metadata', {})
    default = DEFAULT_SIZES.get(config.get('default_scope'), FALLBACK_SIZE)
    size = metadata.setdefault('Input size', list(default))
    found = count_config(config, size)
    metadata.update(Parameters=found.params, FLOPs=found.macs, Framework=config.default_scope)


def name_weights(entry: dict) -> None:
    """Fill in the published weights of one model and those that it starts from, in place."""
    whole = published_for(Path(entry['Config']).stem)
    config = Config.fromfile(ROOT / entry['Config'])
    init = config.get('model', {}).get('backbone', {}).get('init_cfg') or {}
    start = str(init.get('checkpoint', ''))
    named = {'Weights': whole and whole.address, 'Start': start if SCHEME in start else None}
    for key, address in named.items():
        entry.pop(key, None)
        if address:
            entry[key] = address


def dump(content: dict) -> str:
    """YAML in the order of the keys, lists of numbers on one line."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _flow_numbers(dumper: yaml.SafeDumper, data: list) -> yaml.Node:
    numbers = all(isinstance(item, (int, float)) for item in data)
    return dumper.represent_sequence('tag:yaml.org,2002:seq', data, flow_style=numbers)


_Dumper.add_representer(list, _flow_numbers)


def table(content: dict) -> str:
    """One family's models as a Markdown table."""
    collections = {c['Name']: c for c in content['Collections']}
    lines = ['| ' + ' | '.join(COLUMNS) + ' |', '| ' + ' | '.join('---' for _ in COLUMNS) + ' |']
    for entry in content['Models']:
        metadata, results = entry['Metadata'], entry.get('Results', [])
        checkpoints = collections[entry['In Collection']].get('Metadata', {}).get('Checkpoints', '')
        row = (
            f'[{entry["Name"]}]({entry["Config"]})',
            metadata['Framework'],
            f'{metadata["Parameters"] / 1e6:.2f}',
            f'{metadata["FLOPs"] / 1e9:.4g}',
            'x'.join(str(side) for side in metadata['Input size']),
            '; '.join(_published(result) for result in results) or '–',
            '; '.join(dict.fromkeys(result['Source'] for result in results)) or '–',
            entry['Recipe'],
            _weights(entry) or entry.get('Checkpoints', checkpoints) or 'none published',
        )
        lines.append('| ' + ' | '.join(row) + ' |')
    return '\n'.join(lines)


def _weights(entry: dict) -> str:
    """The addresses of published weights: of the whole model, and of its start."""
    whole, start = entry.get('Weights'), entry.get('Start')
    parts = [f'`{whole}`'] if whole else []
    return '; '.join([*parts, *([f'starts from `{start}`'] if start else [])])


def _published(result: dict) -> str:
    metrics = ', '.join(f'{name} {value}' for name, value in result['Metrics'].items())
    return metrics


def families(metafiles: dict[Path, dict]) -> str:
    """A heading, the paper and a table per family."""
    parts = []
    for content in metafiles.values():
        for collection in content['Collections']:
            own = [e for e in content['Models'] if e['In Collection'] == collection['Name']]
            if not own:
                continue
            paper = collection['Paper']
            parts.append(
                f'### {collection["Name"]}\n\n[{paper["Title"]}]({paper["URL"]})\n\n'
                + table(dict(Collections=[collection], Models=own))
            )
    return '\n\n'.join(parts)


NOTE = (
    'Parameters and FLOPs (multiply-adds of one image, attention included; detectors with 1000 '
    'proposals and 100 masks) are measured by `scripts/update_model_zoo.py`. What is published '
    'is quoted from the source in the row; none of it was reproduced here, for no weights of ours '
    'are released. Weights of the authors are loaded by name, `mmeffvit://NAME`: see '
    '[docs/weights.md]({docs}weights.md).'
)


def zoo_page(metafiles: dict[Path, dict]) -> str:
    """The text of ``docs/model_zoo.md``."""
    text = families(metafiles).replace('](configs/', '](../configs/').replace('\n### ', '\n## ')
    text = text.replace('### ', '## ', 1) if text.startswith('### ') else text
    note = NOTE.format(docs='')
    return f'# Model zoo\n\nGenerated from `configs/metafiles`; do not edit.\n\n{note}\n\n{text}\n'


def readme(metafiles: dict[Path, dict]) -> str:
    """The README with its tables replaced."""
    text = (ROOT / 'README.md').read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    note = NOTE.format(docs='docs/')
    return f'{before}{BEGIN}\n{note}\n\n{families(metafiles)}\n{END}{after}'


if __name__ == '__main__':
    run_cli(main)
