from pathlib import Path

import pytest
from mmengine.config import Config

import mmeffvit  # noqa: F401
from mmeffvit.cli.data_paths import check_data, move_data_root
from mmeffvit.cli.errors import UserError
from mmeffvit.utils.config import iter_datasets

CONFIGS = Path(__file__).parents[2] / 'configs'
BOTH = ('train_dataloader', 'val_dataloader')


def config(train, val=None, evaluator=None):
    cfg = dict(train_dataloader=dict(dataset=train))
    if val is not None:
        cfg['val_dataloader'] = dict(dataset=val)
    if evaluator is not None:
        cfg['val_evaluator'] = evaluator
    return Config(cfg)


def coco(root, **changes):
    return dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        **changes,
    )


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/train.json').write_text('{}')
    (tmp_path / 'train').mkdir()
    return tmp_path


def test_complete_data_passes(root):
    evaluator = [dict(type='CocoMetric', ann_file=f'{root}/annotations/train.json')]
    check_data(config(coco(root), coco(root), evaluator), BOTH)


@pytest.mark.parametrize('missing', ['annotations/train.json', 'train'])
def test_a_missing_path_is_named_with_the_remedy(root, missing):
    (root / missing).rename(root / 'elsewhere')
    with pytest.raises(UserError, match=rf'{root}/{missing}/? does not.*--data-root PATH'):
        check_data(config(coco(root)), ['train_dataloader'])


@pytest.mark.parametrize(
    'wrap',
    [
        lambda dataset: dict(type='RepeatDataset', times=2, dataset=dataset),
        lambda dataset: dict(type='ConcatDataset', datasets=[dataset, dataset]),
        lambda dataset: dict(type='A', dataset=dict(type='B', datasets=[dataset])),
    ],
)
def test_wrapped_datasets_are_checked(tmp_path, wrap):
    with pytest.raises(UserError, match=r'train\.json'):
        check_data(config(wrap(coco(tmp_path))), ['train_dataloader'])


def test_only_what_the_run_reads_is_checked(root, tmp_path):
    cfg = config(coco(root), coco(root / 'no'))
    check_data(cfg, ['train_dataloader'])
    with pytest.raises(UserError):
        check_data(cfg, BOTH)


def test_evaluators_are_checked(root):
    cfg = config(coco(root), coco(root), dict(type='CocoMetric', ann_file=f'{root}/val.json'))
    with pytest.raises(UserError, match=r'val\.json'):
        check_data(cfg, BOTH)


def test_remote_data_is_not_looked_for():
    remote = coco('s3://bucket/coco')
    petrel = coco('nowhere', backend_args=dict(backend='petrel'))
    check_data(config(remote, petrel), BOTH)


@pytest.mark.parametrize(
    ('dataset', 'path'),
    [
        (
            dict(type='mmseg.ADE20KDataset', data_root='ade', data_prefix=dict(img_path='i')),
            'ade/i',
        ),
        (dict(type='ImageNet', data_root='in', split='val'), 'in/val'),
        (dict(type='CustomDataset', data_root='cls'), 'cls'),
    ],
)
def test_paths_of_other_datasets(tmp_path, monkeypatch, dataset, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f'^{path}/? does not exist: get the data, or'):
        check_data(config(dataset), ['train_dataloader'])


def test_the_config_says_how_to_get_its_data(tmp_path):
    cfg = config(coco(tmp_path))
    cfg.data_source = 'python make_it.py'
    with pytest.raises(UserError, match=r'get it by python make_it\.py, or .*--data-root PATH'):
        check_data(cfg, ['train_dataloader'])


def test_every_path_under_the_data_root_moves(monkeypatch, tmp_path):
    pytest.importorskip('mmdet')
    cfg = Config.fromfile(CONFIGS / 'retinanet_quadtree_b2_coco.py')
    move_data_root(cfg, '/new/place')
    assert {dataset.data_root for dataset in iter_datasets(cfg)} == {'/new/place'}
    annotations = '/new/place/annotations/instances_val2017.json'
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == annotations
    assert 'data/coco' not in cfg.pretty_text


def test_neighbours_of_the_data_root_stay():
    evaluator = dict(type='CocoMetric', ann_file='data/coco_other/a.json')
    cfg = config(coco('data/coco/'), coco('data/coco'), evaluator)
    move_data_root(cfg, 'x')
    assert cfg.val_evaluator.ann_file == 'data/coco_other/a.json'
    assert [dataset.data_root for dataset in iter_datasets(cfg)] == ['x', 'x']


@pytest.mark.parametrize('other', ['data/lvis', None])
def test_several_roots_or_none_cannot_be_moved(other):
    cfg = config(coco('data/coco'), coco('data/lvis')) if other else config(dict(type='A'))
    with pytest.raises(UserError, match='data/lvis' if other else 'none'):
        move_data_root(cfg, 'x')
