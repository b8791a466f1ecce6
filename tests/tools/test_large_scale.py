"""The switches of docs/large_scale.md change what a step costs, not what it computes."""

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from doc_pages import DOCS, write_files
from tool_runs import ROOT, TINY_CLASSIFIER, run_tool, start_tool

# FSDP's usual settings move states off the GPU, which frees them where there is none.
SHARDED = f"""
_base_ = ['classifier.py', '{ROOT}/configs/_base_/fsdp.py']
custom_imports = dict(imports=['wrap_blocks'])
strategy = dict(
    model_wrapper=dict(device_id='cpu', auto_wrap_policy='wrap_blocks'),
    state_dict_cfg=dict(
        _delete_=True,
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),
        optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True),
    ),
)
"""


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """Work in a folder with the config of a tiny classifier."""
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'classifier.py').write_text(TINY_CLASSIFIER)


def options(shapes, work_dir, batch_size, *more):
    """Command line of one epoch."""
    data = ['--data-root', shapes / 'classification', '--work-dir', work_dir, '--seed', 0]
    batch = f'train_dataloader.batch_size={batch_size}'
    return [*data, '--cfg-options', 'train_cfg.max_epochs=1', batch, *more]


def weights(work_dir):
    return torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']


def test_accumulation_and_recomputing_train_alike(classifier, tmp_path, monkeypatch, shapes):
    runs = {
        'plain': (4, []),
        'accumulated': (2, ['optim_wrapper.accumulative_counts=2']),
        'recomputed': (4, ['model.backbone.with_cp=all']),
    }
    for name, (batch_size, more) in runs.items():
        arguments = options(shapes, name, batch_size, *more)
        assert run_tool(monkeypatch, 'train.py', 'classifier.py', *arguments) == 0
    plain = weights(tmp_path / 'plain')
    for name in ('accumulated', 'recomputed'):
        torch.testing.assert_close(weights(tmp_path / name), plain, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_sharded_processes_train_like_one(classifier, tmp_path, monkeypatch, shapes):
    write_files(DOCS / 'large_scale.md', tmp_path)
    (tmp_path / 'sharded.py').write_text(SHARDED)
    arguments = ['sharded.py', 2, *options(shapes, 'sharded', 2)]
    sharded = start_tool('dist_train.sh', *arguments, cwd=tmp_path, path=[tmp_path])
    assert sharded.returncode == 0, sharded.stderr[-4000:]
    assert run_tool(monkeypatch, 'train.py', 'classifier.py', *options(shapes, 'one', 4)) == 0
    one = weights(tmp_path / 'one')
    torch.testing.assert_close(weights(tmp_path / 'sharded'), one, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_nodes_train_like_one(classifier, tmp_path, monkeypatch, shapes):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    arguments = ['classifier.py', 1, *options(shapes, 'nodes', 2)]
    with ThreadPoolExecutor() as pool:
        nodes = [
            pool.submit(
                start_tool,
                'dist_train.sh',
                *arguments,
                cwd=tmp_path,
                environment=dict(NNODES='2', NODE_RANK=str(rank), PORT=str(port)),
            )
            for rank in (0, 1)
        ]
    for result in (future.result() for future in nodes):
        assert result.returncode == 0, result.stderr[-4000:]
    assert run_tool(monkeypatch, 'train.py', 'classifier.py', *options(shapes, 'one', 4)) == 0
    one = weights(tmp_path / 'one')
    torch.testing.assert_close(weights(tmp_path / 'nodes'), one, rtol=1e-4, atol=1e-6)


def test_slurm_starts_one_task_per_gpu_on_every_node(tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    command = [ROOT / 'tools/slurm_train.sh', 'gpu', 'quadtree', 'c.py', 'w', '--auto-scale-lr']
    environment = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'GPUS': '16'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    asked = done.stdout.split()
    assert {'--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8', '--launcher=slurm'} <= {*asked}
    assert asked[-3:] == ['--work-dir=w', '--launcher=slurm', '--auto-scale-lr']
