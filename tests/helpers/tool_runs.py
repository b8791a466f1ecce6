"""Running the command lines, in this process or as users do."""

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TINY_ARCH = dict(
    embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2), depths=(1, 1, 1, 1)
)

#: The config of the demo, a few thousand times smaller.
TINY_DETECTOR = f"""
_base_ = '{ROOT}/configs/retinanet_quadtree_b0_shapes.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{TINY_ARCH})),
    neck=dict(in_channels=[8, 16, 24, 32]),
    test_cfg=dict(score_thr=0.0),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='PackDetInputs'),
        ]
    ),
)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1))
"""

#: A classifier of the patterns, without any randomness but the order of the images.
TINY_CLASSIFIER = f"""
_base_ = [
    '{ROOT}/configs/_base_/datasets/shapes_classification.py',
    'mmpretrain::_base_/default_runtime.py',
]
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmeffvit.QuadTreeTransformer', arch=dict(**{TINY_ARCH}), out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=8, in_channels=32, loss=dict(type='CrossEntropyLoss')
    ),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=pipeline)
)
val_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(pipeline=pipeline)
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
train_cfg = dict(by_epoch=True, max_epochs=3)
val_cfg = dict()
test_cfg = dict()
"""


def run_tool(monkeypatch, name, *arguments):
    """Run ``tools/<name>``, or the script at an absolute path, in this process; its exit code."""
    monkeypatch.setattr(sys, 'argv', [*map(str, (name, *arguments))])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
    return exit_info.value.code


def free_port():
    """A port for the processes of one run, as text."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


def start_tool(name, *arguments, cwd, path=(), environment=None):
    """Run ``tools/<name>``, or the script at an absolute path, as a process of its own in ``cwd``.

    ``path`` is added to the module search path of the process. Python's and this package's own
    scripts come first on PATH, as in an active environment; ``environment`` adds variables.
    """
    environment = {
        **os.environ,
        'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
        'PYTHONPATH': os.pathsep.join(map(str, [ROOT, *path])),
        'OMP_NUM_THREADS': '1',
        'PORT': free_port(),
        **(environment or {}),
    }
    return subprocess.run(
        [str(ROOT / 'tools' / name), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
