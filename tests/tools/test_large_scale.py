"""The switches of docs/large_scale.md change what a step costs, not what it computes."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from helpers.doc_pages import DOCS, write_files
from helpers.tool_runs import ROOT, TINY_CLASSIFIER, free_port, run_tool, start_tool

# States are moved to the CPU by default, and lost where they are there already.
SHARDED = f"""
_base_ = ['classifier.py', '{ROOT}/configs/_base_/fsdp.py']
custom_imports = dict(imports=['wrap_blocks'])
kept = dict(rank0_only=True, offload_to_cpu=False)
strategy = dict(
    model_wrapper=dict(device_id='cpu', auto_wrap_policy='wrap_blocks'),
    state_dict_cfg=dict(
        _delete_=True,
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig', **kept),
        optim_state_dict_config=dict(type='FullOptimStateDictConfig', **kept),
    ),
)
"""


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """Work in a folder with the config of a tiny classifier."""
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'classifier.py').write_text(TINY_CLASSIFIER)


def options(shapes, work_dir, batch_size, *more, max_epochs=1):
    """Command line of a training."""
    data = ['--data-root', shapes / 'classification', '--work-dir', work_dir, '--seed', 0]
    batch = f'train_dataloader.batch_size={batch_size}'
    return [*data, '--cfg-options', f'train_cfg.max_epochs={max_epochs}', batch, *more]


def weights(work_dir, epoch=1):
    return torch.load(work_dir / f'epoch_{epoch}.pth', weights_only=False)['state_dict']


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
def test_two_sharded_processes_train_and_resume_like_one(classifier, tmp_path, monkeypatch, shapes):
    write_files(DOCS / 'large_scale.md', tmp_path)
    (tmp_path / 'sharded.py').write_text(SHARDED)
    for max_epochs, more in ((1, []), (2, ['--resume'])):
        arguments = options(shapes, 'sharded', 2, *more, max_epochs=max_epochs)
        sharded = start_tool(
            'dist_train.sh', 'sharded.py', 2, *arguments, cwd=tmp_path, path=[tmp_path]
        )
        assert sharded.returncode == 0, sharded.stderr[-4000:]
    one = options(shapes, 'one', 4, max_epochs=2)
    assert run_tool(monkeypatch, 'train.py', 'classifier.py', *one) == 0
    for epoch in (1, 2):
        one, two = (weights(tmp_path / name, epoch) for name in ('one', 'sharded'))
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_nodes_train_like_one(classifier, tmp_path, monkeypatch, shapes):
    port = free_port()
    arguments = ['classifier.py', 1, *options(shapes, 'nodes', 2)]
    with ThreadPoolExecutor() as pool:
        nodes = [
            pool.submit(
                start_tool,
                'dist_train.sh',
                *arguments,
                cwd=tmp_path,
                environment=dict(NNODES='2', NODE_RANK=str(rank), PORT=port),
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
