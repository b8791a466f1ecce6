"""Whole trainings through the command lines, on a few tiny images."""

import json

import pytest
import torch

from helpers.tool_runs import TINY_CLASSIFIER, TINY_DETECTOR, start_tool

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
