"""The tables of RESULTS.md are those of the JSON files."""

from __future__ import annotations

import json
import re

import pytest
from matplotlib.image import imread

from benchmarks import summary
from helpers.tool_runs import ROOT, run_tool

TOOL = ROOT / 'benchmarks' / 'summary.py'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A document with one block, and its results."""
    results = tmp_path / 'results'
    results.mkdir()
    columns = ['case', 'mode', 'candidate', 'min ms', 'time / ours', 'peak / ours']
    rows = [
        ['layer', 'forward', 'ours', '1.0', '1', '1'],
        ['', '', 'theirs', '2.0', '2.00x', '3.00x'],
        ['', '', 'others', '1.0', 'unclear', '0.50x'],
        ['model', 'forward', 'ours', '1.0', '1', '1'],
    ]
    content = dict(environment={'load average': '0.1'}, columns=columns, rows=rows)
    (results / 'slide.json').write_text(json.dumps(content))
    document = tmp_path / 'RESULTS.md'
    document.write_text('before\n<!-- results slide: layer -->\nold\n<!-- end -->\nafter\n')
    for name, path in dict(RESULTS=results, DOCUMENT=document, PLOTS=tmp_path / 'plots').items():
        monkeypatch.setattr(summary, name, path)
    return tmp_path


def test_blocks_are_filled_and_drawn(folder, monkeypatch):
    monkeypatch.setattr('sys.argv', ['summary.py', '--check'])
    assert summary.main() == 1
    monkeypatch.setattr('sys.argv', ['summary.py'])
    assert summary.main() == 0
    lines = (folder / 'RESULTS.md').read_text().splitlines()
    assert lines[:2] + lines[-2:] == [
        'before',
        '<!-- results slide: layer -->',
        '<!-- end -->',
        'after',
    ]
    assert lines[2] == 'Load average 0.1.'
    assert lines[6:8] == [
        '| layer | forward | theirs | 2.00x | 3.00x |',
        '| layer | forward | others | unclear | 0.50x |',
    ]
    assert imread(folder / 'plots' / 'slide.png').std() > 0
    monkeypatch.setattr('sys.argv', ['summary.py', '--check'])
    assert summary.main() == 0


@pytest.mark.parametrize(
    ('block', 'message'), [('slide: nothing', "matches 'nothing'"), ('other: .', 'no other.json')]
)
def test_blocks_without_results(folder, monkeypatch, block, message):
    (folder / 'RESULTS.md').write_text(f'<!-- results {block} -->\n<!-- end -->\n')
    monkeypatch.setattr('sys.argv', ['summary.py'])
    with pytest.raises(ValueError, match=message):
        summary.main()


def test_the_document_holds_what_was_measured(monkeypatch):
    assert run_tool(monkeypatch, TOOL, '--check') == 0


def test_every_plot_is_on_the_page():
    page = (ROOT / 'docs' / 'benchmarks.md').read_text()
    shown = set(re.findall(r'images/benchmarks/(\w+)\.png', page))
    assert shown == {path.stem for path in (ROOT / 'docs/images/benchmarks').glob('*.png')}
