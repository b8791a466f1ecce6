"""The pyramid host with every attention that stands on it here."""

from __future__ import annotations

import pytest
import torch

from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import PVT, PVTv2, PyramidTransformer, QuadTreeTransformer

TINY = dict(embed_dims=(8, 8, 16, 16), depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4))
TINY['mlp_ratios'] = (2, 2, 2, 2)
MODELS = {'pvt': PVT, 'pvtv2': PVTv2, 'quadtree': QuadTreeTransformer}


@pytest.mark.parametrize(
    'arch, expected',
    [('b0', 3332468), ('b1', 13144788), ('b2', 24559015), ('b3', 45751999), ('b4', 63683997)],
)
def test_quadtree_parameters(arch, expected):
    with torch.device('meta'):
        assert num_parameters(QuadTreeTransformer(arch)) == expected


@pytest.mark.parametrize(
    'arch, kind, head, expected',
    [
        ('b5', 'B', 513000, 85210457),
        ('b0', 'A', 257000, 3198280),
        ('b1', 'A', 513000, 12138152),
        ('b2', 'A', 513000, 21062376),
        ('b3', 'A', 513000, 36011496),
        ('b4', 'A', 513000, 48583720),
    ],
)
def test_quadtree_parameters_with_a_classifier(arch, kind, head, expected):
    with torch.device('meta'):
        assert num_parameters(QuadTreeTransformer(arch, kind=kind)) + head == expected


@pytest.mark.parametrize(
    'arch, gmacs', [('b0', 0.616), ('b1', 2.308), ('b2', 4.464), ('b3', 7.757), ('b4', 11.403)]
)
def test_quadtree_multiply_adds(arch, gmacs):
    with torch.device('meta'):
        model = QuadTreeTransformer(arch)
    assert count_complexity(model).macs == pytest.approx(gmacs * 1e9, rel=0.002)


def test_quadtree_multiply_adds_at_detection_size():
    with torch.device('meta'):
        model = QuadTreeTransformer('b1', topks=32)
    macs = count_complexity(model, (1, 3, 800, 1280)).macs
    assert macs == pytest.approx(54.5e9, rel=0.01)


def test_published_size_of_pvtv2():
    """25.4 M with the classifier of 513,000 parameters."""
    with torch.device('meta'):
        assert num_parameters(PVTv2('b2')) + 513000 == 25362856


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('size', [(64, 96), (75, 101), (33, 32), (1, 1)])
def test_any_size(name, size):
    model = MODELS[name](TINY).eval()
    maps = model(torch.randn(2, 3, *size))
    for feature, stride, width in zip(maps, (4, 8, 16, 32), TINY['embed_dims']):
        expected = (2, width, -(-size[0] // stride), -(-size[1] // stride))
        assert feature.shape == expected
        assert feature.isfinite().all()


@pytest.mark.parametrize('name', MODELS)
def test_channels_last_input_and_batch_independence(name):
    model = MODELS[name](TINY).eval()
    images = torch.randn(2, 3, 75, 101)
    together = model(images.to(memory_format=torch.channels_last))
    alone = model(images[1:])
    for a, b in zip(together, alone):
        torch.testing.assert_close(a[1:], b, rtol=1e-4, atol=1e-5)
        assert b.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('with_cp', [True, 'mlp', 'mlp_tail'])
def test_checkpointing_changes_nothing(with_cp):
    plain = QuadTreeTransformer(TINY)
    saving = QuadTreeTransformer(TINY, with_cp=with_cp)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    for model in (plain, saving):
        sum(feature.square().sum() for feature in model(image)).backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def test_mixed_attentions_per_block():
    attentions = [
        dict(type='QuadTreeAttention', levels=2),
        [dict(type='SoftmaxAttention'), dict(type='SpatialReductionAttention', sr_ratio=2)],
        dict(type='SoftmaxAttention', num_heads=4),
        dict(type='SoftmaxAttention'),
    ]
    model = PyramidTransformer(**TINY, attentions=attentions, out_indices=(1, -1))
    assert type(model.stages[1].blocks[1].attn).__name__ == 'SpatialReductionAttention'
    assert model.stages[2].blocks[0].attn.num_heads == 4
    assert [tuple(m.shape) for m in model(torch.randn(1, 3, 64, 64))] == [
        (1, 8, 8, 8),
        (1, 16, 2, 2),
    ]


def test_frozen_stages():
    model = QuadTreeTransformer(TINY, frozen_stages=1).train()
    assert not any(p.requires_grad for p in model.stages[0].parameters())
    assert all(p.requires_grad for p in model.stages[1].parameters())
    assert not model.stages[0].training
    stem = QuadTreeTransformer(TINY, frozen_stages=0)
    assert not stem.stages[0].patch_embed.proj.weight.requires_grad
    assert stem.stages[0].blocks[0].mlp.fc1.weight.requires_grad


def test_drop_path_grows_with_depth():
    model = QuadTreeTransformer(TINY, drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_layer_depths():
    model = QuadTreeTransformer(TINY)
    depth = {n: model.get_layer_depth('backbone.' + n, 'backbone.')[0] for n in model.state_dict()}
    assert depth['stages.0.patch_embed.proj.weight'] == 0
    assert depth['stages.0.blocks.0.attn.q.weight'] == 1
    assert depth['stages.1.patch_embed.proj.weight'] == 2
    assert depth['stages.1.blocks.1.mlp.fc1.bias'] == 3
    assert depth['stages.3.norm.weight'] == 5
    assert model.get_layer_depth('neck.conv.weight', 'backbone.') == (6, 7)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='b9'), r"arch='b9' is not one of b0"),
        (dict(arch=TINY, out_indices=(4,)), r'-4 \.\. 3'),
        (dict(arch=TINY, frozen_stages=9), 'frozen_stages=9'),
        (dict(arch=TINY, attentions=[dict(type='SoftmaxAttention')]), '1 entries for 4 stages'),
        (
            dict(arch=TINY, attentions=[[dict(type='SoftmaxAttention')] * 3] * 4),
            'needs 1 attentions, got 3',
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        QuadTreeTransformer(**options)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_builds_in_every_scope_by_name_and_by_class(scope):
    registry = pytest.importorskip(f'{scope}.registry').MODELS
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(scope):
        for type_ in ('mmeffvit.QuadTreeTransformer', QuadTreeTransformer):
            model = registry.build(dict(type=type_, arch=TINY))
            assert isinstance(model, QuadTreeTransformer)
