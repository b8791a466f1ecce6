import numpy as np
import pytest
import torch
from mmengine.config import Config

from helpers.tool_runs import ROOT, TINY_CLASSIFIER, TINY_DETECTOR, run_tool, start_tool
from mmeffvit.utils.images import write_image

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
    assert 'no.pth does not exist: give the path of a checkpoint' in capsys.readouterr().err


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


CONFIGS = {
    'syntax.py': 'model = dict(\n',
    'unknown.py': 'model = dict(type=nothing)\n',
    'base.py': "_base_ = 'nowhere.py'\n",
    'package.py': "_base_ = 'mmdet::_base_/nowhere.py'\n",
    'self.py': "_base_ = 'self.py'\n",
    'lazy.py': 'from mmengine.config import read_base\nwith read_base():\n    from .no import *\n',
    'empty.py': "default_scope = 'mmdet'\n",
    'detector.py': TINY_DETECTOR,
    'classifier.py': TINY_CLASSIFIER,
    'denoiser.py': f"_base_ = '{ROOT}/configs/uformer_t_shapes.py'\n",
    'norm.py': TINY_CLASSIFIER
    + "model['neck'] = dict(type='NonLinearNeck', in_channels=32, hid_channels=8, out_channels=32,"
    " norm_cfg=dict(type='BN1d'))\n",
}


@pytest.fixture
def room(tmp_path, shapes):
    """Configs, weights that fit none of them, a picture; ``data`` has the shapes."""
    for name, text in CONFIGS.items():
        (tmp_path / name).write_text(text)
    torch.save(dict(state_dict={'weight': torch.zeros(1)}), tmp_path / 'w.pth')
    (tmp_path / 'file').write_text('no folder')
    write_image(tmp_path / 'in.png', np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'data').symlink_to(shapes / 'scenes')
    return tmp_path


def train(config, *options):
    return ('train.py', config, '--data-root', 'data', *options)


def override(*options):
    return train('detector.py', '--cfg-options', *options)


COMMANDS = [
    # Configs: syntax and inheritance.
    (
        train('syntax.py'),
        "syntax.py or one of its bases is no Python: line 1: '(' was never closed",
    ),
    (train('unknown.py'), "unknown.py cannot be read: NameError: name 'nothing' is not defined"),
    (train('base.py'), 'nowhere.py, which does not exist'),
    (train('package.py'), 'nowhere.py, which does not exist'),
    (train('self.py'), 'self.py inherits from itself: mend its _base_.'),
    (train('lazy.py'), 'lazy.py cannot be read: ConfigParsingError: no.py not found'),
    (train('.'), '. does not exist: give the path of a config file'),
    (('train.py', 'empty.py'), 'empty.py has no train_dataloader'),
    (('test.py', 'empty.py', 'w.pth'), 'empty.py has no test_dataloader'),
    (('infer.py', 'self.py', 'w.pth', 'in.png', '--out', 'o'), 'self.py inherits from itself'),
    (('denoise.py', 'syntax.py', 'w.pth', 'in.png', '--out', 'o'), 'is no Python: line 1'),
    (('analysis_tools/get_flops.py', 'empty.py'), 'empty.py has no model: set model=dict(...)'),
    (('deployment/export_onnx.py', 'base.py', 'o.onnx'), 'nowhere.py, which does not exist'),
    # Types, names and arguments.
    (
        override('model.type=RetinaNett'),
        "type='RetinaNett' of the config is no model; did you mean 'RetinaNet'?",
    ),
    (
        override('model.backbone.type=mmeffvit.QuadTreeTransfomer'),
        "did you mean 'mmeffvit.QuadTreeTransformer'?",
    ),
    (
        override('model.backbone.drop_path=0.1'),
        "QuadTreeTransformer of the config has no argument 'drop_path'; did you mean "
        "'drop_path_rate'?",
    ),
    (override('model.backbone.out_indices=9'), 'out_indices=9 must be'),
    (
        override('optim_wrapper.optimizer.type=AdammW'),
        "type='AdammW' of the config is no optimizer; did you mean 'AdamW'?",
    ),
    (
        override('train_dataloader.dataset.pipeline.0.type=LoadImag'),
        "type='LoadImag' of the config",
    ),
    (override('val_evaluator.metrik=bbox'), "no argument 'metrik'; did you mean 'metric'?"),
    (('analysis_tools/get_flops.py', 'quadtree_b9'), "There is no model 'quadtree_b9'"),
    (train('detector.py', '--sede', '1'), '--sede is no option: did you mean --seed?'),
    # Devices.
    (
        ('infer.py', 'detector.py', 'w.pth', 'in.png', '--out', 'o', '--device', 'gpu'),
        "'gpu' is unknown",
    ),
    (
        ('denoise.py', 'denoiser.py', 'w.pth', 'in.png', '--out', 'o', '--device', 'gpu'),
        "'gpu' is unk",
    ),
    # Sizes.
    (train('detector.py', '--seed', '-1'), 'argument --seed: -1 must be a whole number from 0'),
    (override('train_dataloader.batch_size=0'), 'train_dataloader.batch_size=0 must be a whole'),
    (override('val_dataloader.num_workers=-1'), 'val_dataloader.num_workers=-1 must be a whole'),
    (
        ('visualization/attention.py', 'c.py', 'w.pth', 'in.png', 'o.png', '--size', '0', '9'),
        'argument --size: 0 must be a whole number of at least 1',
    ),
    (('dataset_converters/crop_sidd.py', '.', 'o', '--size', 'big'), '--size: big must be a whole'),
    (('analysis_tools/get_flops.py', 'quadtree_b0', '--shape', '0', '9'), '--shape: 0 must be'),
    (
        ('denoise.py', 'denoiser.py', 'w.pth', 'in.png', '--out', 'o', '--tile', '-1'),
        'argument --tile: -1 must be',
    ),
    (
        ('infer.py', 'detector.py', 'w.pth', 'in.png', '--out', 'o', '--score-thr', '30'),
        '--score-thr: 30 must be a number from 0 to 1',
    ),
    # Places that cannot be written.
    (train('detector.py', '--work-dir', 'file'), 'file cannot be written: file is no folder'),
    (('test.py', 'detector.py', 'w.pth', '--out', 'file/o.pkl'), 'file is no folder'),
    (('infer.py', 'detector.py', 'w.pth', 'in.png', '--out', 'file'), 'file is no folder'),
    (
        ('analysis_tools/elastic_eval.py', 'classifier.py', 'w.pth', '--json', 'file/o.json'),
        'argument --json: file/o.json cannot be written: file is no folder',
    ),
    (
        ('convert_checkpoint.py', 'w.pth', '.', '--family', 'quadtree'),
        'argument dst: . is a folder: name a file',
    ),
    # Of another task.
    (
        ('denoise.py', 'detector.py', 'w.pth', 'in.png', '--out', 'o'),
        'The model of this config is a RetinaNet, no Restorer.',
    ),
    (
        ('analysis_tools/elastic_eval.py', 'detector.py', 'w.pth'),
        'The weights are not those of this RetinaNet',
    ),
]
NEEDS_ACCELERATOR = [
    (
        ('infer.py', 'detector.py', 'w.pth', 'in.png', '--out', 'o', '--device', 'cuda'),
        'not available',
    ),
    (
        ('denoise.py', 'denoiser.py', 'w.pth', 'in.png', '--out', 'o', '--device', 'cuda:7'),
        'not avail',
    ),
    (override('optim_wrapper.type=AmpOptimWrapper'), 'AmpOptimWrapper of the config needs'),
]


def check_one_line(capsys, message):
    captured = capsys.readouterr().err
    assert 'Traceback' not in captured
    lines = [line for line in captured.splitlines() if line.startswith('error:')]
    assert len(lines) == 1 and captured.rstrip().endswith(lines[0]), captured
    assert message in lines[0]


@pytest.mark.parametrize(('command', 'message'), COMMANDS)
def test_a_mistake_is_one_line(monkeypatch, capsys, room, command, message):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpretrain')
    assert run_tool(monkeypatch, *command) == 2
    check_one_line(capsys, message)
    assert not (room / 'o').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is one')
@pytest.mark.parametrize(('command', 'message'), NEEDS_ACCELERATOR)
def test_an_accelerator_that_is_not_there_is_one_line(monkeypatch, capsys, room, command, message):
    pytest.importorskip('mmdet')
    assert run_tool(monkeypatch, *command) == 2
    check_one_line(capsys, message)


def test_batch_norm_on_single_values_is_one_line(monkeypatch, capsys, room, shapes):
    pytest.importorskip('mmpretrain')
    root = shapes / 'classification'
    options = ['--cfg-options', 'train_dataloader.batch_size=1']
    assert run_tool(monkeypatch, 'train.py', 'norm.py', '--data-root', root, *options) == 2
    check_one_line(capsys, 'BatchNorm cannot train on one value per channel (torch.Size([1, 8]))')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda text: text[:100], 'is no JSON'),
        (lambda text: '[]', 'must be an object with images'),
        (lambda text: text.replace('"annotations"', '"anotations"'), 'lacks annotations'),
        (lambda text: text.replace('"bbox"', '"box"', 1), 'annotations[0] lacks bbox'),
        (lambda text: text.replace('"image_id": 1', '"image_id": 0', 1), 'which is not listed'),
        (lambda text: text.replace('"id": 2', '"id": 1'), 'ids must differ'),
    ],
)
def test_annotations_that_are_not_cocos_are_one_line(
    monkeypatch, capsys, room, shapes, change, message
):
    pytest.importorskip('mmdet')
    file = shapes / 'scenes/annotations/instances_train.json'
    text = file.read_text()
    assert change(text) != text
    (room / 'bad.json').write_text(change(text))
    bad = f'train_dataloader.dataset.ann_file={room}/bad.json'
    assert run_tool(monkeypatch, *override(bad)) == 2
    check_one_line(capsys, message)


@pytest.mark.slow
@pytest.mark.parametrize(
    'arguments',
    [('detector.py', 2, '--data-root', 'no'), ('detector.py', 2, '--sede', 1), ('self.py', 2)],
    ids=['data', 'option', 'config'],
)
def test_of_several_processes_one_complains(room, arguments):
    pytest.importorskip('mmdet')
    done = start_tool('dist_train.sh', *arguments, cwd=room)
    assert done.returncode == 2
    assert done.stderr.count('error:') == 1
    assert 'Traceback' not in done.stderr and 'exitcode' not in done.stderr
