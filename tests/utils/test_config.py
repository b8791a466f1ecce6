import pytest
from mmengine.config import Config

from mmeffvit.utils.config import activate_scope


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain', 'mmeffvit'])
def test_known_scopes(scope):
    pytest.importorskip(scope)
    assert activate_scope(Config(dict(default_scope=scope))) == scope


@pytest.mark.parametrize('cfg', [{}, dict(default_scope='mmpose')])
def test_other_scopes_are_refused(cfg):
    with pytest.raises(ValueError, match='default_scope'):
        activate_scope(Config(cfg))


def test_detectors_do_not_start_on_a_gpu_that_mmcv_cannot_use(monkeypatch):
    pytest.importorskip('mmdet')
    monkeypatch.setattr('mmeffvit.utils.config.get_device', lambda: 'cuda')
    monkeypatch.setattr('mmeffvit.utils.config.mmcv_has_cuda', lambda: False)
    with pytest.raises(ValueError, match='CUDA_VISIBLE_DEVICES'):
        activate_scope(Config(dict(default_scope='mmdet')))
    activate_scope(Config(dict(default_scope='mmeffvit')))
