"""The benchmark command on tiny models, with all that it writes."""

from __future__ import annotations

import json

import pytest
import torch
from matplotlib.image import imread

from benchmarks import models, profiles
from helpers.tool_runs import ROOT, TINY_ARCH, run_tool

TOOL = ROOT / 'benchmarks' / 'run.py'
FAST = ('--rounds', 2)


@pytest.fixture
def outputs(tmp_path):
    """The options that ask for every file, in a folder that is not there yet."""
    suffixes = dict(json='json', markdown='md', plot='png')
    return {option: tmp_path / 'out' / f'bench.{end}' for option, end in suffixes.items()}


def options(outputs):
    return [part for option, path in outputs.items() for part in (f'--{option}', path)]


@pytest.fixture
def tiny_config(tmp_path):
    path = tmp_path / 'tiny.py'
    backbone = dict(type='mmeffvit.QuadTreeTransformer', arch=TINY_ARCH)
    head = dict(type='LinearClsHead', num_classes=4, in_channels=32)
    neck = dict(type='GlobalAveragePooling')
    model = dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)
    path.write_text(f"default_scope = 'mmpretrain'\nmodel = {model!r}\n")
    return path


def test_models_with_every_output(monkeypatch, capsys, outputs, tiny_config):
    pytest.importorskip('mmpretrain')
    compiled = []
    monkeypatch.setattr(torch, 'compile', lambda f, **options: compiled.append(f) or f)
    arguments = ['models', tiny_config, 'slide_pvtv2_b0', '--sizes', '32', '33x40', '--batches', 2]
    arguments += ['--modes', 'eager', 'compiled', 'deploy', '--measures', 'latency', 'training']
    assert run_tool(monkeypatch, TOOL, *arguments, *FAST, *options(outputs)) == 0

    content = json.loads(outputs['json'].read_text())
    assert {'machine', 'torch', 'threads', 'matmul, cpu float32'} <= content['environment'].keys()
    results = content['results']
    # 2 models, 2 sizes; latency in 3 modes, training in 2
    assert len(results) == 2 * 2 * (3 + 2)
    assert len(compiled) == sum(result['mode'] == 'compiled' for result in results) == 8
    assert {tuple(result['shape']) for result in results} == {(2, 3, 32, 32), (2, 3, 33, 40)}
    for result in results:
        assert len(result['times']) == 2
        assert result['images_per_second'] == pytest.approx(2 / result['median'])
        assert result['peak'] > 0 and result['multiply_adds'] > 0
        if result['measure'] == 'latency':
            assert result['error'] < 1e-3
    size = {(result['model'], result['measure']): result['peak'] for result in results}
    assert size['slide_pvtv2_b0', 'training'] > size['slide_pvtv2_b0', 'latency']

    lines = outputs['markdown'].read_text().splitlines()
    assert sum(line.startswith('| slide_pvtv2_b0 |') for line in lines) == 10
    assert imread(outputs['plot']).std() > 0
    assert 'slide_pvtv2_b0' in capsys.readouterr().out


def test_a_model_that_fails_leaves_the_others(monkeypatch, capsys, outputs, tiny_config):
    pytest.importorskip('mmpretrain')

    def broken(function, **options):
        raise RuntimeError('no compiler')

    monkeypatch.setattr(torch, 'compile', broken)
    arguments = ['models', tiny_config, '--sizes', 32, '--modes', 'eager', 'compiled', *FAST]
    assert run_tool(monkeypatch, TOOL, *arguments, *options(outputs)) == 1
    assert 'tiny.py, compiled failed: no compiler' in capsys.readouterr().out
    first, second = json.loads(outputs['json'].read_text())['results']
    assert first['median'] > 0
    assert second['failure'] == 'no compiler'


def test_published_accuracy_is_found():
    assert models._published(str(ROOT / 'configs/quadtree_b2_imagenet.py')) == (
        'top-1, ImageNet-1K, as published',
        82.7,
    )
    assert models._published('quadtree_b2') is None


def test_suites_with_every_output(monkeypatch, outputs):
    arguments = ['suites', 'quadtree', '--only', 'fine 5x196x64', *FAST]
    assert run_tool(monkeypatch, TOOL, *arguments, *options(outputs)) == 0
    content = json.loads(outputs['json'].read_text())
    assert [result['candidate'] for result in content['results']][:2] == ['ours', '(a) per-query']
    assert outputs['markdown'].read_text().count('(b) per-group') == 2
    assert imread(outputs['plot']).std() > 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['models', 'quadtree_b9'], "no model 'quadtree_b9' (quadtree_b"),
        (['models', 'no.py'], 'no.py does not exist: give the path of a config file'),
        (['models', 'vit_t', '--sizes', '32x'], "'32x' must be like 224, 512x2048"),
        (['models', 'vit_t', '--sizes', '0x32'], "'0x32' must be like 224"),
        (['models', 'vit_t', '--sizes', '7x32x32'], 'takes no input of --sizes 7x32x32'),
        (['models', 'vit_t', '--batches', 0], '--batches [0] must be positive'),
        (['models', 'vit_t', '--devices', 'abacus'], 'Device abacus cannot be used here'),
        (['models', 'vit_t', '--dtypes', 'int8'], "invalid choice: 'int8'"),
        (['models', 'vit_t', '--rounds', 1], '--rounds 1 must be at least 2'),
        (['models', 'vit_t', '--plot', 'a.txt'], '--plot a.txt must end in .png'),
        (['suites', 'octree'], 'No suite octree; there are'),
        (['suites', 'quadtree', '--only', 'nothing'], "No case has 'nothing' in its name"),
    ],
)
def test_user_errors(monkeypatch, capsys, arguments, message):
    assert run_tool(monkeypatch, TOOL, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert 'Traceback' not in captured.err


def test_profile_with_every_output(monkeypatch, capsys, outputs):
    arguments = ['profile', 'quadtree_b0', '--sizes', '64', *options(outputs)]
    assert run_tool(monkeypatch, TOOL, *arguments) == 0
    (result,) = json.loads(outputs['json'].read_text())['results']
    assert result['shape'] == [1, 3, 64, 64]
    assert {'linear', 'convolution', 'norm', 'selection'} <= result['seconds'].keys()
    assert '| quadtree_b0 | 1x64x64 |' in outputs['markdown'].read_text()
    assert imread(outputs['plot']).std() > 0.1


@pytest.mark.parametrize(
    ('operation', 'kind'),
    [
        ('aten::addmm', 'linear'),
        ('aten::mm', 'linear'),
        ('aten::mkldnn_convolution', 'convolution'),
        ('aten::native_layer_norm', 'norm'),
        ('aten::_scaled_dot_product_flash_attention_for_cpu', 'fused attention'),
        ('aten::add_', 'elementwise'),
        ('aten::view', 'other'),
    ],
)
def test_kinds(operation, kind):
    assert profiles.kind_of(operation) == kind


def test_growth_per_pixel(monkeypatch, capsys, outputs):
    names = ['quadtree_b0', 'quadtree_b0:max_coarse_grid=1']
    arguments = ['growth', *names, '--sides', 64, 32, '--rounds', 2]
    assert run_tool(monkeypatch, TOOL, *arguments, *options(outputs)) == 0
    results = json.loads(outputs['json'].read_text())['results']
    assert [(r['model'], r['side']) for r in results] == [(n, s) for n in names for s in (32, 64)]
    rows = [line.split(' | ') for line in outputs['markdown'].read_text().splitlines()[-4:]]
    assert rows[0][3] == '1.00'
    expected = results[1]['time'] / results[0]['time'] / 4
    assert float(rows[1][3]) == pytest.approx(expected, abs=0.006)
    assert imread(outputs['plot']).std() > 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['quadtree_b0:max_coarse_grid'], 'must be like'),
        (['quadtree_b0:max_coarse_grid=0'], 'max_coarse_grid=0'),
        (['quadtree_b0', '--sides', '0'], 'must be positive'),
    ],
)
def test_growth_refuses(monkeypatch, capsys, arguments, message):
    assert run_tool(monkeypatch, TOOL, 'growth', *arguments) == 2
    assert message in capsys.readouterr().err


def test_sizes_that_would_take_too_long_are_left_out(monkeypatch, outputs):
    arguments = ['growth', 'pvtv2_b0', '--sides', 32, 64, '--longest', 1e-9]
    assert run_tool(monkeypatch, TOOL, *arguments, *options(outputs)) == 0
    results = json.loads(outputs['json'].read_text())['results']
    assert [result['side'] for result in results] == [32]
