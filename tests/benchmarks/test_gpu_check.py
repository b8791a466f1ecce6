"""The check for GPUs, rehearsed on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from matplotlib.image import imread

from benchmarks.gpu import records, report
from helpers.tool_runs import ROOT

ENVIRONMENT = dict(card='A card', torch='2', triton='3', cuda='13', python='3.12')


@pytest.fixture
def recorder(tmp_path):
    recorder = records.Recorder(tmp_path / records.LOG)
    recorder.write('environment', **ENVIRONMENT)
    return recorder


def test_targets_and_failures_are_reported(tmp_path, recorder):
    recorder.write('part', name='kernels', outcome='stopped after 9 s', seconds=9)
    name = 'tests/a/test_b.py::test_c[torch.float32]'
    recorder.write('test', name=name, outcome='failed', message='far off', errors=dict(
        values=0.25, gradients=0.5))  # fmt: skip
    shared = dict(name='QuadTree fine level, topk=0', shape=(64, 3136, 64, 8, 0), dtype='bfloat16')
    measured = dict(
        forward_graph=None,
        floor=2e-5,
        bandwidth_share=0.5,
        rate_share=0.1,
        peak_both=2**20,
        error=0.0,
    )
    for candidate, seconds, saved in (('triton', 8e-5, 2**20), ('(a) per-query', 2e-3, 2**26)):
        recorder.write('operator', **shared, **measured, candidate=candidate, forward=seconds,
                       backward=3 * seconds, saved=saved)  # fmt: skip
    recorder.write('operator', **shared, candidate='torch', failure='OutOfMemoryError: all of it')
    for model, speed in (('quadtree_b2', 700), ('pvtv2_b2', 1000)):
        recorder.write('network', model=model, mode='eager', measure='latency', shape=[8, 3, 9, 9],
                       images_per_second=speed, peak=2**20)  # fmt: skip
    text = report.write(tmp_path)
    assert text.splitlines()[0] == '# A card · torch 2 · triton 3 · cuda 13 · python 3.12'
    assert text == (tmp_path / 'results.md').read_text()
    for line in (
        '- kernels: stopped after 9 s, 9 s',
        '| test_b.py::test_c | float32 | 0 | 1 | 0 | 2.5e-01 | 5.0e-01 |',
        f'- {name}: far off',
        '| QuadTree fine level, forward (us) | <= 90 | 80 |',
        '| its backward over its forward | <= 3.5 | 3 |',
        '| per-query over ours, both ways | >= 10 | 25 |',
        '| bytes saved for backward, per-query over ours | >= 40 | 64 |',
        '| QuadTree-b2 over PVTv2-b2, inference | >= 0.7 | 0.7 |',
        '| QuadTree-b2 over PVTv2-b2, training | >= 0.6 | -- |',
        '| Slide k=3, forward (us) | <= 80 | -- |',
    ):
        assert line in text
    assert 'OutOfMemoryError: all of it' in text
    content = json.loads((tmp_path / 'results.json').read_text())
    assert [o['candidate'] for o in content['operator']] == ['triton', '(a) per-query', 'torch']
    assert imread(tmp_path / 'results.png').std() > 0


def test_document_is_updated_between_its_marks(tmp_path, recorder):
    recorder.write('test', name='tests/a/test_b.py::test_c', outcome='passed', message='')
    for model, speed in (('quadtree_b2', 700), ('pvtv2_b2', 1000)):
        recorder.write('network', model=model, mode='graph', measure='latency', shape=[8, 3, 9, 9],
                       images_per_second=speed, peak=2**20)  # fmt: skip
    recorder.write('profile', model='quadtree_b2', measure='latency', seconds=0.1, busy=0.02,
                   launches=1500, kernels=[dict(name='void at::native::copy|a', seconds=0.01,
                                                launches=96)])  # fmt: skip
    assert '| quadtree_b2 | latency | 10.00 | 96 | copy/a |' in report.write(tmp_path)
    document = tmp_path / 'RESULTS.md'
    document.write_text(f'before\n{report.BEGIN}\nold\n{report.END}\nafter\n')
    content = json.loads((tmp_path / 'results.json').read_text())
    for _ in range(2):
        report.update(content, document)
        text = document.read_text()
        assert text.startswith(f'before\n{report.BEGIN}\nA card · torch 2')
        assert text.endswith(f'{report.END}\nafter\n')
        assert 'old' not in text and text.count('### Targets') == 1
        assert '| the same as CUDA graphs |  | 0.7 |' in text
        assert 'the call; kernels in sum 20.0 ms' in text
        assert '1 passed, 0 failed, 0 skipped' in text
    document.write_text('no marks')
    with pytest.raises(ValueError, match='has no lines'):
        report.update(content, document)


def test_fastest_candidates_and_failures_are_reported(tmp_path, recorder):
    for warps, found in ((1, dict(time=4e-5)), (2, dict(time=3e-5)), (4, dict(failure='spilled'))):
        recorder.write('candidate', case='k=3', kernel='forward', config=dict(num_warps=warps),
                       error=2e-3, **found)  # fmt: skip
    lines = report.write(tmp_path).splitlines()
    first = lines.index('| k=3 | forward | 30 | 2.0e-03 | num_warps=2 |')
    assert lines[first + 1 : first + 3] == [
        '| k=3 | forward | 40 | 2.0e-03 | num_warps=1 |',
        '| k=3 | forward |  |  | 1 spilled |',
    ]


def test_a_line_that_was_cut_off_is_left_out(recorder):
    recorder.write('part', name='kernels', outcome='done', seconds=1)
    with recorder.path.open('a') as file:
        file.write('{"kind": "test", "na')
    assert [record['kind'] for record in records.read(recorder.path)] == ['environment', 'part']


@pytest.mark.slow
@pytest.mark.parametrize('part', ['kernels', 'figures', 'networks', 'profile', 'tune'])
def test_rehearsal_on_the_cpu(tmp_path, part):
    pytest.importorskip('triton')
    command = [
        ROOT / 'benchmarks' / 'gpu_check.sh',
        '--out',
        tmp_path,
        '--device',
        'cpu',
        '--quick',
    ]
    command += ['--parts', part, '--budget', '280']
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']])
    environment = dict(os.environ, PATH=path, TRITON_INTERPRET='1')
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=290)
    assert run.returncode == 0, run.stdout + run.stderr
    content = json.loads((tmp_path / 'results.json').read_text())
    assert [(p['name'], p['outcome']) for p in content['part']] == [(part, 'done')]
    kind = {'kernels': 'test', 'figures': 'operator', 'networks': 'network', 'profile': 'profile',
            'tune': 'candidate'}  # fmt: skip
    found = content[kind[part]]
    assert found and not [record for record in found if 'failure' in record]
    if part == 'kernels':
        assert all(test['outcome'] == 'passed' and test['errors'] for test in found)
    if part == 'figures':
        candidates = {record['candidate'] for record in found}
        assert {'triton', 'torch', '(a) per-query', 'two convolutions'} <= candidates
    if part == 'tune':
        assert {record['case'] for record in found} == {'k=3', 'k=7', 'QuadTree'}
    assert len(list(tmp_path.iterdir())) <= 8
