import json
import os

import pytest

from conftest import SHAPES
from helpers.tool_runs import ROOT, start_tool

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny_coco(tmp_path, shapes):
    """A folder in COCO's layout, its 80 categories, with shapes for the first four of them."""
    classes = pytest.importorskip('mmdet.datasets').CocoDataset.METAINFO['classes']
    root = tmp_path / 'anywhere'
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        os.symlink(shapes / 'scenes' / split, root / f'{split}2017')
        source = shapes / 'scenes' / 'annotations' / f'instances_{split}.json'
        coco = json.loads(source.read_text())
        coco['categories'] = [{'id': i, 'name': name} for i, name in enumerate(classes, 1)]
        target = root / 'annotations' / f'instances_{split}2017.json'
        target.write_text(json.dumps(coco))
    return root


def test_the_main_config_trains_and_evaluates_on_a_folder_given_alone(tmp_path, tiny_coco):
    tiny = [
        'train_dataloader.dataset.pipeline.2.scale=(96,64)',
        'val_dataloader.dataset.pipeline.1.scale=(96,64)',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'train_cfg.max_epochs=1',
        'model.test_cfg.score_thr=0.0',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.save_last=False',
        'default_hooks.checkpoint.interval=2',
    ]
    config = ROOT / 'configs/retinanet_quadtree_b2_coco.py'
    result = start_tool(
        'train.py', config, '--data-root', tiny_coco, '--cfg-options', *tiny, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr[-4000:]
    scalars = next(tmp_path.glob('work_dirs/*/*/vis_data/scalars.json')).read_text()
    records = [json.loads(line) for line in scalars.splitlines()]
    assert sum('loss' in record for record in records) == SHAPES.num_train / 2
    assert 0 <= records[-1]['coco/bbox_mAP_50'] <= 1
