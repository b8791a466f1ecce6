from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import mmeffvit  # noqa: F401
from mmeffvit.cli.data_paths import move_data_root
from shapes import KINDS, TINTS

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'


def first_batch(name, scope, root, loader):
    pytest.importorskip(scope)
    init_default_scope(scope)
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    move_data_root(cfg, str(root))
    options = dict(batch_size=2, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader({**cfg[loader], **options}, seed=0)
    return loader.dataset, next(iter(loader))


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_detection(shapes, loader):
    dataset, batch = first_batch('shapes_detection', 'mmdet', shapes / 'scenes', loader)
    assert len(dataset) == (8 if loader == 'train_dataloader' else 4)
    assert dataset.metainfo['classes'] == ('circle', 'rectangle', 'star', 'triangle')
    for image, sample in zip(batch['inputs'], batch['data_samples']):
        assert max(image.shape[1:]) <= 160
        assert len(sample.gt_instances.bboxes) >= 1
        assert sample.gt_instances.labels.max() < 4


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_segmentation(shapes, loader):
    dataset, batch = first_batch('shapes_segmentation', 'mmseg', shapes / 'scenes', loader)
    assert len(dataset) == (8 if loader == 'train_dataloader' else 4)
    for sample in batch['data_samples']:
        values = sample.gt_sem_seg.data.unique().tolist()
        assert 0 in values
        assert 1 < len(values) <= 5
        assert set(values) <= set(range(len(dataset.metainfo['classes'])))


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_mosaics(shapes, loader):
    dataset, batch = first_batch('shapes_mosaics', 'mmseg', shapes / 'mosaics', loader)
    assert len(dataset) == (8 if loader == 'train_dataloader' else 4)
    assert dataset.metainfo['classes'] == TINTS
    for sample in batch['data_samples']:
        assert sample.gt_sem_seg.data.max() < len(TINTS)


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_classification(shapes, loader):
    root = shapes / 'classification'
    dataset, batch = first_batch('shapes_classification', 'mmpretrain', root, loader)
    assert len(dataset) == (8 if loader == 'train_dataloader' else 4)
    assert dataset.CLASSES == KINDS
    for image, sample in zip(batch['inputs'], batch['data_samples']):
        assert image.shape == (3, 64, 64)
        folder = Path(sample.img_path).parent.name
        assert dataset.CLASSES[sample.gt_label.item()] == folder
