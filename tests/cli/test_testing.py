import pytest
from mmengine.config import Config

from mmeffvit.cli.errors import UserError
from mmeffvit.cli.testing import (
    enable_tta,
    enable_visualization,
    save_predictions,
    whole_predictions,
)


def config(**changes):
    pipeline = [dict(type='Load'), dict(type='Resize'), dict(type='Pack')]
    cfg = dict(
        model=dict(type='Model'),
        default_hooks=dict(visualization=dict(type='Hook')),
        visualizer=dict(type='Visualizer'),
        test_dataloader=dict(dataset=dict(type='Data', pipeline=pipeline)),
        test_evaluator=dict(type='Metric'),
    )
    return Config({**cfg, **changes})


@pytest.mark.parametrize(
    ('scope', 'switch', 'folder'),
    [
        ('mmdet', 'draw', lambda cfg: cfg.default_hooks.visualization.test_out_dir),
        ('mmseg', 'draw', lambda cfg: cfg.visualizer.save_dir),
        ('mmpretrain', 'enable', lambda cfg: cfg.default_hooks.visualization.out_dir),
    ],
)
def test_visualization(scope, switch, folder):
    cfg = config()
    enable_visualization(cfg, scope, show=False, show_dir='drawn', wait_time=1.0)
    assert cfg.default_hooks.visualization[switch] is True
    assert folder(cfg) == 'drawn'


def test_visualization_needs_its_hook():
    with pytest.raises(UserError, match='default_hooks'):
        enable_visualization(config(default_hooks={}), 'mmdet', True, None, 1.0)


@pytest.mark.parametrize(
    ('scope', 'model'), [('mmdet', 'DetTTAModel'), ('mmpretrain', 'AverageClsScoreTTA')]
)
def test_default_tta_is_both_flips(scope, model):
    cfg = config()
    enable_tta(cfg, scope)
    assert cfg.model.type == model
    assert cfg.model.module == dict(type='Model')
    views = cfg.test_dataloader.dataset.pipeline
    assert [step.type for step in views] == ['Load', 'Resize', 'TestTimeAug']
    flips, (pack,) = views[-1].transforms
    assert [flip.prob for flip in flips] == [1.0, 0.0]
    assert pack.type == 'Pack'


def test_tta_of_the_config_comes_first():
    cfg = config(tta_model=dict(type='Mine'), tta_pipeline=[dict(type='Load')])
    cfg.test_dataloader.dataset = dict(type='Wrapper', dataset=cfg.test_dataloader.dataset)
    enable_tta(cfg, 'mmseg')
    assert cfg.model == dict(type='Mine', module=dict(type='Model'))
    assert cfg.test_dataloader.dataset.dataset.pipeline == [dict(type='Load')]


@pytest.mark.parametrize('given', [{}, dict(tta_model=dict(type='Mine'))])
def test_tta_without_a_default_says_what_is_missing(given):
    with pytest.raises(UserError, match='tta_pipeline' if given else 'tta_model'):
        enable_tta(config(**given), 'mmseg')


def test_predictions_become_a_pickle_or_label_maps():
    cfg = config()
    save_predictions(cfg, 'mmdet', 'out.pkl')
    dump = dict(type='DumpDetResults', out_file_path='out.pkl')
    assert cfg.test_evaluator == [dict(type='Metric'), dump]
    cfg = config()
    save_predictions(cfg, 'mmseg', 'maps')
    assert cfg.test_evaluator == dict(type='Metric', output_dir='maps', keep_results=True)
    with pytest.raises(UserError, match=r'out\.json'):
        save_predictions(config(), 'mmpretrain', 'out.json')


def test_predictions_appear_when_the_test_has_ended(tmp_path):
    out = str(tmp_path / 'new/out.pkl')
    with whole_predictions(out) as partial:
        with open(partial, 'w') as file:
            file.write('half')
        assert not (tmp_path / 'new/out.pkl').exists()
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['out.pkl']
    with whole_predictions(str(tmp_path / 'other.pkl')):
        pass  # as in all processes but the first
    assert not (tmp_path / 'other.pkl').exists()
    for as_given in (None, 'maps'):
        with whole_predictions(as_given) as path:
            assert path == as_given
