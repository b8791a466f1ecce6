import pytest
import torch
from mmengine.config import Config

from helpers.tool_runs import ROOT, run_tool

COCO = ROOT / 'configs/retinanet_quadtree_b2_coco.py'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in a folder without data."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['no.py'], 'no.py does not exist'),
        ([COCO], 'data/coco/annotations/instances_train2017.json does not exist: get the data'),
        ([COCO, '--data-root', 'd'], 'd/annotations/instances_train2017.json does not exist'),
        ([COCO, '--cfg-options', 'data_root=d'], 'd/annotations/instances_train2017.json does'),
        ([COCO, '--resume', 'no.pth'], 'no.pth does not exist'),
        ([COCO, '--cfg-options', 'model.backbone=1', 'model.backbone.a=1'], '--cfg-options do not'),
        ([COCO, '--cfg-options', 'novalue'], '--cfg-options takes key=value pairs'),
        ([COCO, '--cfg-options', 'a=[1,(2'], '--cfg-options takes key=value pairs'),
        ([COCO, '--launcher', 'pigeon'], "invalid choice: 'pigeon'"),
        ([COCO, '--cfg-options', 'default_scope=mmpose'], "default_scope='mmpose'"),
        pytest.param(
            [COCO, '--amp'],
            '--amp needs an accelerator',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is one'),
        ),
    ],
)
def test_train_stops_with_one_line(monkeypatch, capsys, arguments, message):
    pytest.importorskip('mmdet')
    assert run_tool(monkeypatch, 'train.py', *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count('error:') == 1
    assert 'Traceback' not in captured.err


def test_a_missing_framework_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr('mmeffvit.utils.requirements.find_spec', lambda name: None)
    assert run_tool(monkeypatch, 'train.py', COCO) == 2
    assert "pip install 'mmeffvit[det]'" in capsys.readouterr().err


def test_train_checks_pretrained_weights(monkeypatch, capsys, shapes):
    pytest.importorskip('mmdet')
    config = ROOT / 'configs/retinanet_quadtree_b0_shapes.py'
    init = 'model.backbone.init_cfg.'
    options = [f'{init}type=Pretrained', f'{init}checkpoint=no.pth']
    root = shapes / 'scenes'
    arguments = [config, '--data-root', root, '--cfg-options', *options]
    assert run_tool(monkeypatch, 'train.py', *arguments) == 2
    assert 'no.pth does not exist: give the path of converted weights' in capsys.readouterr().err


def test_launcher_without_its_environment(monkeypatch, capsys, shapes):
    pytest.importorskip('mmdet')
    monkeypatch.delenv('RANK', raising=False)
    config = ROOT / 'configs/retinanet_quadtree_b0_shapes.py'
    arguments = [config, '--data-root', shapes / 'scenes', '--launcher', 'pytorch']
    assert run_tool(monkeypatch, 'train.py', *arguments) == 2
    assert 'start through tools/dist_train.sh' in capsys.readouterr().err


def test_test_refuses_what_is_no_checkpoint(monkeypatch, capsys, tmp_path):
    pytest.importorskip('mmdet')
    assert run_tool(monkeypatch, 'test.py', COCO, 'no.pth') == 2
    assert 'no.pth does not exist' in capsys.readouterr().err
    (tmp_path / 'text.pth').write_text('no weights')
    assert run_tool(monkeypatch, 'test.py', COCO, 'text.pth') == 2
    assert 'text.pth cannot be read' in capsys.readouterr().err


def test_missing_shapes_name_their_generator(monkeypatch, capsys):
    pytest.importorskip('mmdet')
    config = ROOT / 'configs/retinanet_quadtree_b0_shapes.py'
    assert 'data/shapes' in Config.fromfile(config).data_root
    assert run_tool(monkeypatch, 'train.py', config) == 2
    assert 'python demo/make_shapes.py data/shapes --tasks scenes' in capsys.readouterr().err


def test_make_shapes(monkeypatch, capsys):
    tool = '../demo/make_shapes.py'
    small = ['--tasks', 'scenes', '--num-train', '2', '--num-val', '1', '--workers', '1']
    assert run_tool(monkeypatch, tool, 'out', *small) == 0
    assert run_tool(monkeypatch, tool, 'out', *small) == 0
    assert 'out/scenes: complete, kept' in capsys.readouterr().out
    assert run_tool(monkeypatch, tool, 'out', *small, '--seed', '1') == 2
    assert '--force' in capsys.readouterr().err
    assert run_tool(monkeypatch, tool, 'out', '--size-range', '20', '30') == 2
    assert 'size_range=(20, 30)' in capsys.readouterr().err
