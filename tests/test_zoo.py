"""Every listed model builds by name and keeps the contract of its kind."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from helpers.models import CLASSES, NAMES, SMALLEST
from mmeffvit import get_model, list_models
from mmeffvit.analysis import input_shape
from mmeffvit.backbones import HierarchicalTransformer, PyramidTransformer
from mmeffvit.backbones.base import Backbone
from mmeffvit.registry import MODELS
from mmeffvit.zoo import entries

ODD_SIZE = (75, 101)
SMALL_ODD_SIZE = (33, 45)


def images(model: torch.nn.Module, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(input_shape(model, size))


def check_outputs(model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    outs = model(x)
    if not isinstance(model, Backbone):
        assert outs.shape == x.shape
        outs = [outs]
    else:
        H, W = x.shape[-2:]
        expected = [
            (1, channels, -(-H // stride), -(-W // stride))
            for channels, stride in zip(model.out_channels, model.out_strides, strict=True)
        ]
        assert [tuple(out.shape) for out in outs] == expected
        assert len(outs) == len(model.out_indices)
    assert all(out.isfinite().all() for out in outs)
    return list(outs)


def check_gradients(model: torch.nn.Module, outs: list[torch.Tensor]) -> None:
    # Random weights: a LayerNorm's output has the same sum and sum of squares for every input.
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.ndim < 2 or parameter.grad.any(), key


@pytest.mark.parametrize(
    'name',
    [pytest.param(n, marks=pytest.mark.slow if n.endswith('_l') else ()) for n in NAMES],
)
def test_every_model_keeps_the_contract_and_trains(name):
    torch.manual_seed(0)
    model = get_model(name, drop_path_rate=0.0).train()
    check_gradients(model, check_outputs(model, images(model, SMALL_ODD_SIZE)))


@pytest.mark.parametrize('name', SMALLEST)
def test_the_smallest_of_every_family_runs(name):
    torch.manual_seed(0)
    model = get_model(name).eval()
    with torch.no_grad():
        check_outputs(model, images(model, ODD_SIZE))


@pytest.mark.parametrize(
    'name',
    [
        name
        for name, (cls, _) in entries().items()
        if issubclass(cls, Backbone) or hasattr(cls, 'size_divisor')
    ],
)
def test_an_empty_batch_gives_empty_outputs(name):
    """As the last shard of a test set may be; the weights do not matter."""
    with torch.device('meta'):
        model = get_model(name).eval()
    model = model.to_empty(device='cpu')
    for buffer in model.buffers():
        buffer.zero_()  # tables of indices
    image = images(model, SMALL_ODD_SIZE)
    with torch.no_grad():
        empty = model(image[:0])
    if not isinstance(model, Backbone):
        assert empty.shape == (0, *image.shape[1:])
        return
    H, W = image.shape[-2:]
    assert [tuple(out.shape) for out in empty] == [
        (0, channels, -(-H // stride), -(-W // stride))
        for channels, stride in zip(model.out_channels, model.out_strides, strict=True)
    ]


def test_every_backbone_and_denoiser_is_listed():
    """All but the host, which has no sizes of its own."""
    listed = set(CLASSES)
    models = {
        cls
        for cls in MODELS.module_dict.values()
        if issubclass(cls, Backbone) or hasattr(cls, 'size_divisor')
    }
    assert models - listed == {HierarchicalTransformer, PyramidTransformer}
    every = [cls for cls in MODELS.module_dict.values() if vars(cls).get('zoo')]
    names = [name for cls in every for name in vars(cls)['zoo']]
    assert len(set(names)) == len(names) == len(list_models())


def test_patterns():
    assert list_models('quadtree_b*') == [f'quadtree_b{size}' for size in range(6)]
    assert list_models('quadtree_matcher*') == [
        f'quadtree_matcher_{name}' for name in ('indoor', 'outdoor', 'lite')
    ]
    assert list_models('*lookup*') == [f'lookupvit_{size}' for size in 'tsbl']
    assert {'uformer_t', 'uformer_skipat_t'} <= set(list_models('uformer*'))
    assert list_models('resnet*') == []


def test_options_reach_the_class():
    with torch.device('meta'):
        model = get_model('quadtree_b1', out_indices=(1, -1), attention=dict(topks=32))
    assert model.stages[0].blocks[0].attn.topks == (32,) * 4
    assert model.out_channels == (128, 512)
    assert model.out_strides == (8, 32)


@pytest.mark.parametrize(
    ('name', 'near'), [('quadtre_b2', 'quadtree_b2'), ('Swin_tiny', 'swin_t'), ('x', 'none is')]
)
def test_a_wrong_name_gives_near_ones(name, near):
    with pytest.raises(ValueError, match=f"no model '{name}' .*{near}.*list_models"):
        get_model(name)


@pytest.mark.parametrize(
    'old, new',
    [
        ('slide_swin_tiny', 'slide_swin_t'),
        ('skipat_pvt_medium', 'skipat_pvt_m'),
        ('lookupvit_base', 'lookupvit_b'),
        ('uformer-skipat_t', 'uformer_skipat_t'),
        ('uniformer-skipat', 'uniformer_skipat'),
    ],
)
def test_names_of_version_0_1(old, new):
    assert new in list_models() and old not in list_models()
    with torch.device('meta'), pytest.warns(DeprecationWarning, match=f"'{old}' .* '{new}'"):
        assert type(get_model(old)) is type(get_model(new))


def test_sizes_of_archs_have_short_names():
    with torch.device('meta'):
        short, long = (get_model('slide_pvt_t', arch=arch) for arch in ('m', 'medium'))
    assert len(short.stages[2].blocks) == len(long.stages[2].blocks) == 18


@pytest.fixture(scope='module')
def weights():
    return get_model('lightvit_t').state_dict()


@pytest.mark.parametrize('wrap', [dict, lambda state: dict(state_dict=state, meta={})])
def test_pretrained(tmp_path, weights, wrap):
    torch.save(wrap(weights), tmp_path / 'w.pth')
    model = get_model('lightvit_t', pretrained=tmp_path / 'w.pth')
    torch.testing.assert_close(model.state_dict(), weights)


def test_pretrained_from_a_detector_and_for_other_outputs(tmp_path, weights):
    state = {f'backbone.{k}': v for k, v in weights.items() if not k.startswith('norm0.')}
    state['neck.weight'] = torch.zeros(1)
    save_file(state, tmp_path / 'w.safetensors')
    whole = get_model('lightvit_t', pretrained=tmp_path / 'w.safetensors')
    torch.testing.assert_close(whole.norm1.weight, weights['norm1.weight'])
    last = get_model('lightvit_t', pretrained=tmp_path / 'w.safetensors', out_indices=-1)
    torch.testing.assert_close(last.stages.state_dict(), whole.stages.state_dict())


def test_a_dead_url_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r'http://127\.0\.0\.1:9/w\.pth cannot be downloaded'):
        get_model('lightvit_t', pretrained='http://127.0.0.1:9/w.pth')


def test_wrong_weights(tmp_path, weights):
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(
        ValueError, match=r'not those of this PVTv2: .*not in the file.*convert_checkpoint'
    ):
        get_model('pvtv2_b0', pretrained=tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='of another shape, left as initialised: global_token'):
        get_model('lightvit_s', pretrained=tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=r'no\.pth does not exist'):
        get_model('lightvit_t', pretrained='no.pth')


def test_import_stays_light():
    code = (
        'import mmeffvit, sys; '
        "heavy = {'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'mmeffvit.backbones'} & set(sys.modules);"
        'assert not heavy, heavy'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
