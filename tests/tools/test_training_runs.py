"""Whole trainings through the command lines, on a few tiny images."""

import json

import pytest
import torch
from mmengine.config import Config

from helpers.tool_runs import TINY_CLASSIFIER, TINY_DETECTOR, start_tool
from mmeffvit.checkpoints import write_weights
from mmeffvit.models import build_model

pytestmark = pytest.mark.slow

# Dies in the second iteration of the third epoch, once.
KILLER = """
import os
import signal
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class KillOnce(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        fired = Path(__file__).with_name('fired')
        if runner.epoch == 2 and batch_idx == 1 and not fired.exists():
            fired.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""

CLASSIFIER = f"""{TINY_CLASSIFIER}
custom_imports = dict(imports=['losses'])
custom_hooks = [dict(type='WriteLosses')]
"""

LOSSES = """
import json
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class WriteLosses(Hook):
    def before_run(self, runner):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))

    def after_train(self, runner):
        with open(f'{runner.work_dir}/losses_{runner.rank}.json', 'w') as file:
            json.dump(self.losses, file)
"""


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def assert_same(left, right, path=''):
    assert type(left) is type(right), path
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f'{path}.{key}')
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), path
        for index, pair in enumerate(zip(left, right)):
            assert_same(*pair, f'{path}.{index}')
    else:
        assert left == right, path


def test_resuming_a_killed_run_ends_like_an_uninterrupted_one(tmp_path, shapes):
    pytest.importorskip('mmdet')
    (tmp_path / 'kill_once.py').write_text(KILLER)
    config = tmp_path / 'detector.py'
    config.write_text(TINY_DETECTOR + 'train_cfg = dict(max_epochs=4, val_interval=2)\n')
    deadly = tmp_path / 'deadly.py'
    deadly.write_text(
        "_base_ = 'detector.py'\n"
        "custom_imports = dict(imports=['kill_once'])\n"
        "default_hooks = dict(kill=dict(type='KillOnce'))\n"
    )

    def train(path, work_dir, *options):
        data = ['--data-root', shapes / 'scenes', '--work-dir', work_dir]
        return start_tool('train.py', path, *data, *options, cwd=tmp_path, path=[tmp_path])

    assert train(deadly, 'killed').returncode == -9
    assert (tmp_path / 'killed/last_checkpoint').read_text().endswith('epoch_2.pth')
    resumed = train(deadly, 'killed', '--resume')
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    left = load(tmp_path / 'killed/epoch_4.pth')
    whole = train(config, 'whole', '--seed', left['meta']['seed'])
    assert whole.returncode == 0, whole.stderr[-4000:]
    right = load(tmp_path / 'whole/epoch_4.pth')
    assert left['meta']['iter'] == right['meta']['iter'] == 16
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_same(left[part], right[part], part)


def test_two_processes_train_like_one(tmp_path, shapes):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'losses.py').write_text(LOSSES)
    (tmp_path / 'classifier.py').write_text(CLASSIFIER)

    def train(tool, work_dir, batch_size, *positional):
        data = ['--data-root', shapes / 'classification', '--work-dir', work_dir, '--seed', 0]
        batch = ['--cfg-options', f'train_dataloader.batch_size={batch_size}']
        arguments = ['classifier.py', *positional, *data, *batch]
        result = start_tool(tool, *arguments, cwd=tmp_path, path=[tmp_path])
        assert result.returncode == 0, result.stderr[-4000:]
        scalars = next((tmp_path / work_dir).glob('*/vis_data/scalars.json')).read_text()
        accuracy = [line for line in scalars.splitlines() if 'accuracy' in line]
        losses = [
            json.loads(path.read_text())
            for path in sorted((tmp_path / work_dir).glob('losses_*.json'))
        ]
        weights = load(tmp_path / work_dir / 'epoch_3.pth')['state_dict']
        return torch.tensor(losses), json.loads(accuracy[-1])['accuracy/top1'], weights

    one_losses, one_accuracy, one_weights = train('train.py', 'one', 4)
    two_losses, two_accuracy, two_weights = train('dist_train.sh', 'two', 2, 2)
    assert one_losses.shape == (1, 6)
    assert two_losses.shape == (2, 6)
    assert not torch.allclose(two_losses[0], two_losses[1])
    torch.testing.assert_close(two_losses.mean(0), one_losses[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(two_weights, one_weights, rtol=1e-4, atol=1e-6)
    assert one_accuracy == two_accuracy


def test_two_processes_on_cpus_train_what_has_sync_batch_norm(tmp_path, shapes):
    """Which torch has for GPUs only."""
    pytest.importorskip('mmpretrain')
    neck = "model['neck'] = dict(type='NonLinearNeck', in_channels=32, hid_channels=8, "
    neck += "out_channels=32, norm_cfg=dict(type='SyncBN'))\n"
    (tmp_path / 'classifier.py').write_text(TINY_CLASSIFIER + neck)
    data = ['--data-root', shapes / 'classification', '--work-dir', 'work']
    quick = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']
    done = start_tool('dist_train.sh', 'classifier.py', 2, *data, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    state = load(tmp_path / 'work/epoch_1.pth')['state_dict']
    assert any(key.endswith('running_mean') and value.any() for key, value in state.items())


def test_two_processes_train_and_test_a_detector(tmp_path, shapes):
    pytest.importorskip('mmdet')
    (tmp_path / 'detector.py').write_text(TINY_DETECTOR)
    data = ['--data-root', shapes / 'scenes', '--work-dir']
    once = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    trained = start_tool('dist_train.sh', 'detector.py', 2, *data, 'train', *once, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr[-4000:]
    assert 'coco/bbox_mAP_50' in trained.stdout
    checkpoint = 'train/epoch_1.pth'
    one = start_tool('test.py', 'detector.py', checkpoint, *data, 'one', cwd=tmp_path)
    two = start_tool('dist_test.sh', 'detector.py', checkpoint, 2, *data, 'two', cwd=tmp_path)
    assert one.returncode == two.returncode == 0, two.stderr[-4000:]
    metrics = [
        json.loads(next((tmp_path / name).glob('*/*.json')).read_text()) for name in ('one', 'two')
    ]
    timing = ('time', 'data_time')
    one, two = ({k: v for k, v in m.items() if k not in timing} for m in metrics)
    assert one == two
    assert 'coco/bbox_mAP_50' in one


def train(tmp_path, shapes, work_dir, *options):
    """Train the tiny classifier of ``classifier.py`` in ``tmp_path``."""
    data = ['--data-root', shapes / 'classification', '--work-dir', work_dir, '--seed', 0]
    quick = ['--cfg-options', 'train_dataloader.batch_size=4', *options]
    return start_tool('train.py', 'classifier.py', *data, *quick, cwd=tmp_path, path=[tmp_path])


def first_lines(tmp_path, work_dir, count=3):
    """Of the newest log, without times."""
    log = max((tmp_path / work_dir).glob('*/*.log'))
    return '\n'.join(line.partition(' - ')[2] for line in log.read_text().splitlines()[:count])


def test_a_training_says_first_what_it_starts_from(tmp_path, shapes):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'classifier.py').write_text(TINY_CLASSIFIER)
    config = Config.fromfile(tmp_path / 'classifier.py')
    state = build_model(config).state_dict()
    head = {key: value for key, value in state.items() if key.startswith('head')}
    other = {key: torch.zeros(7, *value.shape[1:]) for key, value in head.items()}
    write_weights({**state, **other}, tmp_path / 'other.safetensors', {})
    start = f'load_from={tmp_path}/other.safetensors'
    done = train(tmp_path, shapes, 'other', start, 'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr[-4000:]
    classes = len(state['head.fc.bias'])
    said = (
        f'{len(state) - 2} of {len(state)} tensors of {tmp_path}/other.safetensors fill '
        f'ImageClassifier, which has {len(state)}; 2 of another shape, left as initialised: '
        f'head.fc.weight (7, 32) instead of ({classes}, 32), '
        f'head.fc.bias (7) instead of ({classes})'
    )
    assert said in first_lines(tmp_path, 'other')
    assert said in '\n'.join(done.stderr.splitlines()[:20])

    backbone = {k.removeprefix('backbone.'): v for k, v in state.items() if 'backbone' in k}
    write_weights(backbone, tmp_path / 'backbone.safetensors', {})
    init = 'model.backbone.init_cfg'
    options = [f'{init}.type=Pretrained', f'{init}.checkpoint={tmp_path}/backbone.safetensors']
    done = train(tmp_path, shapes, 'init', *options, 'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr[-4000:]
    assert f'{len(backbone)} of {len(backbone)} tensors of' in first_lines(tmp_path, 'init')

    public = {f'stage{i}.{key}': value for i, (key, value) in enumerate(backbone.items())}
    torch.save(public, tmp_path / 'public.pth')
    done = train(tmp_path, shapes, 'none', f'load_from={tmp_path}/public.pth')
    assert done.returncode == 2
    assert 'not those of this ImageClassifier: 0 of' in done.stderr
    assert not list((tmp_path / 'none').glob('*/*.log'))

    resumed = start_tool(
        *('train.py', 'classifier.py', '--data-root', shapes / 'classification'),
        *('--work-dir', 'other', '--resume', '--cfg-options', 'model.head.num_classes=7'),
        cwd=tmp_path,
    )
    assert resumed.returncode == 2, resumed.stderr[-4000:]
    assert f'head.fc.weight ({classes}, 32) instead of (7, 32)' in resumed.stderr
    assert '--cfg-options load_from=other/epoch_1.pth' in resumed.stderr


def test_safetensors_are_tested_like_pth(tmp_path, shapes):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'classifier.py').write_text(TINY_CLASSIFIER)
    state = build_model(Config.fromfile(tmp_path / 'classifier.py')).state_dict()
    write_weights(state, tmp_path / 'w.safetensors', {})
    torch.save(state, tmp_path / 'w.pth', _use_new_zipfile_serialization=False)
    found = []
    for name in ('w.safetensors', 'w.pth'):
        work = ['--work-dir', name + '-work', '--out', f'{name}.pkl']
        arguments = ['classifier.py', name, '--data-root', shapes / 'classification', *work]
        done = start_tool('test.py', *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-4000:]
        metrics = json.loads(next((tmp_path / f'{name}-work').glob('*/*.json')).read_text())
        found.append(metrics['accuracy/top1'])
        assert (tmp_path / f'{name}.pkl').stat().st_size
        assert f'{len(state)} of {len(state)} tensors of {name}' in first_lines(
            tmp_path, f'{name}-work'
        )
    assert found[0] == found[1]
    del state['head.fc.bias']
    torch.save(state, tmp_path / 'part.pth')
    arguments = ['classifier.py', 'part.pth', '--data-root', shapes / 'classification']
    done = start_tool('test.py', *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert '1 not in the file, left as initialised: head.fc.bias' in done.stderr
    assert start_tool('test.py', *arguments, '--allow-partial', cwd=tmp_path).returncode == 0


def test_a_loss_that_is_not_finite_is_one_line(tmp_path, shapes):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'classifier.py').write_text(TINY_CLASSIFIER)
    done = train(
        tmp_path, shapes, 'nan', 'optim_wrapper.optimizer.lr=1e38', 'train_cfg.max_epochs=9'
    )
    assert done.returncode == 2, done.stderr[-4000:]
    error = [line for line in done.stderr.splitlines() if line.startswith('error:')]
    assert len(error) == 1 and 'The loss is not finite since iteration' in error[0]
    assert 'Traceback' not in done.stderr
