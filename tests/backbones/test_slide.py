"""Slide-Transformers and the Swin host: size, cost, any image, options."""

from __future__ import annotations

import copy

import pytest
import torch

from helpers.goldens import load_golden
from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import SlideCSwin, SlidePVT, SlidePVTv2, SlideSwin, SwinTransformer
from mmeffvit.layers import SlideAttention

TINY = dict(embed_dims=8, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4))
TINY_PYRAMID = dict(
    embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), mlp_ratios=(2,) * 4
)
#: Classifier of 1000 classes, and what PVT's class token adds: itself, a position, its norm.
HEAD = 1000


@pytest.mark.parametrize(
    ('arch', 'stages', 'params', 'gmacs'),
    [
        ('tiny', 2, 28308514, 4.565),
        ('small', 2, 49626418, 8.815),
        ('base', 2, 87787424, 15.530),
        ('tiny', 0, 28288354, 4.491),
        ('small', 0, 49606258, 8.741),
        ('base', 0, 87768224, 15.431),
    ],
)
def test_slide_swin_has_the_size_and_cost_of_the_authors_code(arch, stages, params, gmacs):
    with torch.device('meta'):
        model = SlideSwin(arch, num_slide_stages=stages, out_indices=3)
    head = (model.norms['3'].weight.numel() + 1) * HEAD
    assert num_parameters(model) + head == params
    assert count_complexity(model).macs == pytest.approx(gmacs * 1e9, rel=0.001)


def test_windows_of_56_pixels():
    with torch.device('meta'):
        model = SlideSwin('tiny', window_size=(7, 7, 14, 7), out_indices=3)
    assert num_parameters(model) + 769 * HEAD == 28348834
    assert count_complexity(model).macs == pytest.approx(4.697e9, rel=0.001)


@pytest.mark.parametrize(
    ('arch', 'params', 'gmacs'),
    [
        ('tiny', 12.226, 2.030),
        ('small', 22.729, 3.980),
        ('medium', 42.452, 6.824),
        ('large', 58.609, 10.056),
    ],
)
def test_slide_pvt_has_the_published_size_and_cost(arch, params, gmacs):
    with torch.device('meta'):
        model = SlidePVT(arch)
    class_token = 512 + 512 + 2 * 512
    assert (num_parameters(model) + class_token + 513 * HEAD) / 1e6 == pytest.approx(
        params, abs=5e-4
    )
    assert count_complexity(model).macs == pytest.approx(gmacs * 1e9, rel=0.01)


@pytest.mark.parametrize(
    ('arch', 'params', 'gmacs'),
    [
        ('b0', 3.427, 0.603),
        ('b1', 13.005, 2.205),
        ('b2', 23.606, 4.191),
        ('b3', 43.482, 7.062),
        ('b4', 59.796, 10.344),
        ('b5', 79.698, 11.921),
    ],
)
def test_slide_pvtv2_has_the_published_size_and_cost(arch, params, gmacs):
    with torch.device('meta'):
        model = SlidePVTv2(arch)
    head = (model.stages[-1].norm.weight.numel() + 1) * HEAD
    assert (num_parameters(model) + head) / 1e6 == pytest.approx(params, abs=6e-4)
    assert count_complexity(model).macs == pytest.approx(gmacs * 1e9, rel=0.002)


@pytest.mark.parametrize(
    ('arch', 'stages', 'params', 'gmacs'),
    [('small', 2, 35, 6.9), ('base', 2, 78, 15.0), ('tiny', 0, 23, 4.3), ('base', 0, 78, 15.0)],
)
def test_slide_cswin_is_near_the_published_size_and_cost(arch, stages, params, gmacs):
    with torch.device('meta'):
        model = SlideCSwin(arch, num_slide_stages=stages)
    head = (model.stages[-1].norm.weight.numel() + 1) * HEAD
    assert (num_parameters(model) + head) / 1e6 == pytest.approx(params, abs=0.7)
    assert count_complexity(model).macs == pytest.approx(gmacs * 1e9, rel=0.015)


def _models() -> dict:
    return {
        'swin': SlideSwin(TINY),
        'pvt': SlidePVT(TINY_PYRAMID),
        'pvtv2': SlidePVTv2(TINY_PYRAMID),
        'cswin': SlideCSwin(dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2))),
    }


@pytest.mark.parametrize('name', ['swin', 'pvt', 'pvtv2', 'cswin'])
@pytest.mark.parametrize('size', [(64, 96), (150, 203), (33, 1), (1, 1)])
def test_any_size(name, size):
    torch.manual_seed(0)
    model = _models()[name]
    outs = model(torch.randn(1, 3, *size))
    for i, out in enumerate(outs):
        stride = 4 * 2**i
        assert out.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
    sum(out.square().mean() for out in outs).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key


def test_nothing_that_the_authors_code_refuses_is_refused():
    limits = load_golden('slide/golden_limits.pt')
    sizes = {
        'square 256, window 7': (256, 256),
        'square 384, window 7': (384, 384),
        'square 200, window 56 (not a multiple of 32)': (200, 200),
        '224x320, window 7': (224, 320),
        '224x448, window 7': (224, 448),
        '448x224, window 7': (448, 224),
        'built for 224, fed 256': (256, 256),
    }
    others = {
        'even window ka=4',
        'reflect padding on 1x1',
        'public load_pretrained on its own checkpoint',
    }
    refused = {key for key, outcome in limits.items() if outcome != 'works'}
    assert refused == {*sizes, *others}
    windows_of_56 = SlideSwin(TINY, window_size=(7, 7, 14, 7))
    for name, size in sizes.items():
        model = windows_of_56 if 'window 56' in name else _models()['swin']
        assert len(model(torch.randn(1, 3, *size))) == 4
    reflecting = SlideAttention(8, 2, padding_mode='reflect')
    assert reflecting(torch.randn(1, 1, 8), (1, 1)).shape == (1, 1, 8)
    windows_of_56.load_state_dict(copy.deepcopy(windows_of_56.state_dict()))
    with pytest.raises(ValueError, match='odd'):
        SlideAttention(8, 2, kernel_size=4)


@pytest.mark.parametrize('name', ['swin', 'pvt', 'pvtv2', 'cswin'])
def test_deploy_form_of_a_backbone(name):
    torch.manual_seed(0)
    model = _models()[name].eval()
    image = torch.randn(1, 3, 70, 50)
    expected = model(image)
    trained_state = copy.deepcopy(model.state_dict())
    model.switch_to_deploy()
    assert not any('dep_conv1' in key for key in model.state_dict())
    for actual, wanted in zip(model(image), expected):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
    model.load_state_dict(trained_state)


def test_slide_options_reach_the_layers():
    model = SlideSwin(TINY, num_slide_stages=3, attention=dict(kernel_size=5, mask_borders=True))
    attns = [block.attn for stage in model.stages for block in stage.blocks]
    assert [type(attn).__name__ for attn in attns] == ['SlideAttention'] * 4 + ['WindowAttention']
    assert all(attn.kernel_size == 5 and attn.mask_borders for attn in attns[:4])


def test_without_slide_stages_a_model_is_its_baseline():
    torch.manual_seed(0)
    slide, swin = SlideSwin(TINY, num_slide_stages=0).eval(), SwinTransformer(TINY).eval()
    slide.load_state_dict(swin.state_dict())
    image = torch.randn(1, 3, 64, 64)
    for actual, expected in zip(slide(image), swin(image)):
        assert torch.equal(actual, expected)


def test_outputs_frozen_stages_and_checkpointing():
    torch.manual_seed(0)
    model = SlideSwin(TINY, out_indices=(1, 3), frozen_stages=2, drop_path_rate=0.1)
    assert list(model.norms) == ['1', '3']
    frozen = {name.split('.')[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'0', '1'}  # stages 0 and 1, and with them norms.1
    assert not model.stages[1].training and model.stages[2].training
    model = SlideSwin(TINY).train()
    recomputing = SlideSwin(TINY, with_cp=True).train()
    recomputing.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 40, 40)
    grads = []
    for net in (model, recomputing):
        sum(out.square().sum() for out in net(image)).backward()
        grads.append([p.grad for p in net.parameters() if p.requires_grad])
    for actual, expected in zip(*grads):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ('key', 'depth'),
    [
        ('stages.0.patch_embed.proj.weight', 0),
        ('stages.0.blocks.0.attn.dep_conv1.weight', 1),
        ('stages.2.patch_embed.reduction.weight', 3),
        ('stages.2.blocks.1.norm1.weight', 4),
        ('norms.3.weight', 6),
    ],
)
def test_layer_depths(key, depth):
    model = SlideSwin(TINY)
    assert key in model.state_dict()
    assert model.get_layer_depth(f'backbone.{key}', 'backbone.') == (depth, 7)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(arch='huge'), 'tiny'),
        (dict(num_slide_stages=5), 'num_slide_stages=5'),
        (dict(window_size=(7, 7)), 'window_size'),
        (dict(arch=dict(TINY, num_heads=(1, 2))), 'num_heads'),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SlideSwin(**options)
