"""Published models by the name of their config: in the frameworks' inferencers and in the tools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS as MM_MODELS
from mmengine.registry import DefaultScope

import mmeffvit.inference  # noqa: F401  (the frameworks find our models by name)
from helpers.public_layouts import layout_of
from helpers.tool_runs import ROOT, TINY_CLASSIFIER, run_tool
from mmeffvit.checkpoints.index import published_for

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that makes the file of a config's whole model, in a folder for the network."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('MMEFFVIT_WEIGHTS', str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def make(name: str):
        entry = published_for(name)
        config = Config.fromfile(ROOT / f'configs/{name}.py')
        with DefaultScope.overwrite_default_scope(config.default_scope), torch.device('meta'):
            model = MM_MODELS.build(config.model)
        rest = {k: v for k, v in model.state_dict().items() if not k.startswith('backbone.')}
        state = {
            key: torch.full(value.shape, 0.01, dtype=value.dtype)
            for key, value in layout_of(entry, rest).items()
        }
        meta = dict(CLASSES=tuple(f'kind {i}' for i in range(80)))
        torch.save(dict(state_dict=state, meta=meta), tmp_path / entry.file_name)

    return make


@pytest.mark.slow
def test_a_detector(publish):
    apis = pytest.importorskip('mmdet.apis')
    publish('retinanet_quadtree_b0_coco')
    inferencer = apis.DetInferencer('retinanet_quadtree_b0_coco', device='cpu')
    parameter = inferencer.model.backbone.stages[0].blocks[0].attn.q.weight
    assert torch.equal(parameter, torch.full_like(parameter, 0.01))
    assert inferencer.model.dataset_meta['classes'][1] == 'kind 1'
    assert 'predictions' in inferencer(IMAGE, show=False, no_save_vis=True)


@pytest.mark.slow
def test_a_segmentor(publish):
    apis = pytest.importorskip('mmseg.apis')
    publish('semanticfpn_quadtree_b0_ade20k')
    inferencer = apis.MMSegInferencer('semanticfpn_quadtree_b0_ade20k', device='cpu')
    weight = inferencer.model.decode_head.conv_seg.weight
    assert torch.equal(weight, torch.full_like(weight, 0.01))


@pytest.mark.slow
def test_a_classifier(publish):
    mmpretrain = pytest.importorskip('mmpretrain')
    publish('quadtree_b0_imagenet')
    model = mmpretrain.get_model('quadtree_b0_imagenet', pretrained=True)
    weight = model.head.fc.weight
    assert torch.equal(weight, torch.full_like(weight, 0.01))


def test_the_word_published_loads_the_whole_detector(publish, monkeypatch, capsys):
    """As far as COCO, which is not here."""
    pytest.importorskip('mmdet')
    publish('retinanet_quadtree_b0_coco')
    config = ROOT / 'configs/retinanet_quadtree_b0_coco.py'
    assert run_tool(monkeypatch, 'test.py', config, 'published') == 2
    said = capsys.readouterr().err
    assert 'tensors of mmeffvit://retinanet_quadtree_b0_coco' in said
    assert 'fill RetinaNet' in said and '--data-root' in said.splitlines()[-1]
    config = ROOT / 'configs/retinanet_slide_pvt_t_coco.py'
    assert run_tool(monkeypatch, 'test.py', config, 'published') == 2
    assert 'No weights are published for the config retinanet_slide' in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_starts_from_them_and_says_so(publish, monkeypatch, shapes, tmp_path):
    pytest.importorskip('mmpretrain')
    publish('quadtree_b0_imagenet')
    (tmp_path / 'mine.py').write_text(
        TINY_CLASSIFIER
        + "model['backbone']['arch'] = 'b0'\nmodel['head']['in_channels'] = 256\n"
        + "model['backbone']['init_cfg'] = dict(type='Pretrained', "
        + "checkpoint='mmeffvit://quadtree_b0')\ntrain_cfg['max_epochs'] = 1\n"
    )
    monkeypatch.delenv('MMEFFVIT_FROM_SCRATCH')
    data = ['--data-root', shapes / 'classification']
    for out, options, first in (
        ('start', [], r'tensors of mmeffvit://quadtree_b0 (https://github.com/Tangshitao/'),
        ('scratch', ['--from-scratch'], 'mmeffvit://quadtree_b0 is not loaded (--from-scratch).'),
    ):
        arguments = ['mine.py', *data, '--work-dir', out, *options]
        assert run_tool(monkeypatch, 'train.py', *arguments) == 0
        (log,) = (tmp_path / out).glob('*/*.log')
        assert first in '\n'.join(log.read_text().splitlines()[:4])
    state = torch.load(tmp_path / 'start/epoch_1.pth', weights_only=True)['state_dict']
    assert abs(state['backbone.stages.0.patch_embed.norm.weight'].mean() - 0.01) < 0.1
