"""The hierarchical host, with attention layers of several families and parts of its own."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import (
    PVT,
    DualTokenViT,
    HierarchicalTransformer,
    LightViT,
    LookupViT,
    PVTv2,
    PyramidTransformer,
    QuadTreeTransformer,
    SkipAtPVT,
    SkipAtViT,
    SlideSwin,
    SwinTransformer,
    base,
)
from mmeffvit.denoising import SkipUformer
from mmeffvit.layers import SoftmaxAttention, TransformerBlock

TINY = dict(embed_dims=(8, 8, 16, 16), depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4))
TINY['mlp_ratios'] = (2, 2, 2, 2)
DOUBLING = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4))
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
        assert (
            num_parameters(QuadTreeTransformer(arch, attention=dict(kind=kind))) + head == expected
        )


@pytest.mark.parametrize(
    'arch, gmacs', [('b0', 0.616), ('b1', 2.308), ('b2', 4.464), ('b3', 7.757), ('b4', 11.403)]
)
def test_quadtree_multiply_adds(arch, gmacs):
    with torch.device('meta'):
        model = QuadTreeTransformer(arch)
    assert count_complexity(model).macs == pytest.approx(gmacs * 1e9, rel=0.002)


def test_quadtree_multiply_adds_at_detection_size():
    with torch.device('meta'):
        model = QuadTreeTransformer('b1', attention=dict(topks=32))
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
    model = HierarchicalTransformer(TINY, attentions=attentions, out_indices=(1, -1))
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
        (dict(arch=TINY, out_indices='last'), "out_indices='last' must be integers"),
        (dict(arch=TINY, out_indices=1.5), 'out_indices=1.5 must be integers'),
        (dict(arch={**TINY, 'num_heads': (1, 2)}), 'num_heads has 2 entries for 4 stages'),
        (dict(arch=TINY, attention=dict(kind='C')), "kinds 'A' and 'B'"),
        (dict(arch=TINY, pretrained='a.pth', init_cfg=dict(type='Xavier')), 'contradict'),
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


class ConvDownsample(torch.nn.Module):
    """Strided convolution and LayerNorm, as in NAT."""

    def __init__(self, in_channels: int, embed_dims: int, num_convs: int = 1) -> None:
        super().__init__()
        self.convs = torch.nn.Sequential(
            torch.nn.Conv2d(in_channels, embed_dims, 3, 2, 1),
            *(torch.nn.Conv2d(embed_dims, embed_dims, 3, 2, 1) for _ in range(num_convs - 1)),
        )
        self.norm = torch.nn.LayerNorm(embed_dims)

    def forward(self, x):
        x = self.convs(x)
        return self.norm(x.flatten(2).transpose(1, 2)), x.shape[2:]


class ConvFirstBlock(TransformerBlock):
    """A block that adds a position convolution before the attention, as in BiFormer."""

    def __init__(self, embed_dims: int, **kwargs) -> None:
        super().__init__(embed_dims, **kwargs)
        self.pos = torch.nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)

    def forward(self, x, grid, *args, **kwargs):
        maps = x.transpose(1, 2).unflatten(2, grid)
        return super().forward(x + self.pos(maps).flatten(2).transpose(1, 2), grid, *args, **kwargs)


def test_parts_of_another_scheme_need_no_other_host():
    model = HierarchicalTransformer(
        dict(embed_dims=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4), mlp_ratios=3.0),
        attention=dict(type=SoftmaxAttention),
        stem=partial(ConvDownsample, num_convs=2),
        downsample=ConvDownsample,
        block=partial(ConvFirstBlock, layer_scale=1e-5),
        mlp='Mlp',
        stage_norm=None,
        output_norm=torch.nn.LayerNorm,
        out_indices=(1, 3),
    )
    maps = model(torch.randn(1, 3, 75, 101))
    assert [tuple(m.shape) for m in maps] == [(1, 16, 10, 13), (1, 64, 3, 4)]
    assert model.stages[3].blocks[0].mlp.fc1.out_features == 3 * 64
    assert model.stages[1].blocks[1].scale1.weight[0] == 1e-5
    sum(m.square().sum() for m in maps).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert model.get_layer_depth('stages.1.patch_embed.convs.0.weight') == (2, 7)


def test_parts_by_name_in_a_config():
    embed = dict(type='PatchEmbed', patch_size=4, stride=4)
    model = HierarchicalTransformer(TINY, dict(type='SoftmaxAttention'), stem=embed, mlp='Mlp')
    assert model.stages[0].patch_embed.proj.kernel_size == (4, 4)


@pytest.mark.parametrize('build', [partial(PVT, TINY), partial(SwinTransformer, DOUBLING)])
def test_weights_of_all_stages_load_where_the_last_are_not_built(build, monkeypatch):
    whole, part = build(), build(out_indices=(0, 1))
    assert len(part.stages) == 2
    said = []
    monkeypatch.setattr(base, 'print_log', lambda text, *args: said.append(text))
    part.load_state_dict(whole.state_dict())
    assert len(said) == 1 and 'not loaded, such as stages.2.' in said[0]
    image = torch.randn(1, 3, 64, 64)
    for actual, expected in zip(part.eval()(image), whole.eval()(image)):
        assert torch.equal(actual, expected)
    extra = {**whole.state_dict(), 'stages.1.blocks.0.gate': torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r'stages\.1\.blocks\.0\.gate'):
        part.load_state_dict(extra)


@pytest.mark.parametrize('value', [None, ''])
def test_an_empty_pretrained_does_nothing(value):
    assert PVTv2(TINY, pretrained=value).init_cfg is None


def test_pretrained_is_an_init_cfg(tmp_path):
    model = PVTv2(TINY)
    torch.save(model.state_dict(), tmp_path / 'w.pth')
    other = PVTv2(TINY, pretrained=str(tmp_path / 'w.pth'))
    other.init_weights()
    torch.testing.assert_close(other.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    'build, option',
    [
        (partial(QuadTreeTransformer, TINY, attention=dict(topks=4)), 'attention='),
        (partial(SkipAtPVT, TINY, skip_layers=[()] * 4), 'skip_layers='),
        (partial(SwinTransformer, DOUBLING, window_size=5), 'window_size=5'),
        (partial(SlideSwin, DOUBLING, num_slide_stages=1), 'num_slide_stages=1'),
        (partial(SkipAtViT, attention=dict(phi_kernel=3)), 'attention='),
    ],
)
def test_attentions_beside_options_of_the_own_layer(build, option):
    with pytest.raises(ValueError, match=f'{option}.*no effect beside attentions'):
        build(attentions=[dict(type='SoftmaxAttention')] * 4)


def test_a_host_without_attention():
    with pytest.raises(ValueError, match='has no default attention'):
        HierarchicalTransformer(TINY)


@pytest.mark.parametrize(
    'old, new',
    [
        (
            partial(QuadTreeTransformer, TINY, kind='A', topks=4),
            partial(QuadTreeTransformer, TINY, attention=dict(kind='A', topks=4)),
        ),
        (
            partial(SlideSwin, DOUBLING, slide=dict(kernel_size=5)),
            partial(SlideSwin, DOUBLING, attention=dict(kernel_size=5)),
        ),
        (
            partial(SkipAtPVT, TINY, [(), (1,), (), ()], phi_type='conv'),
            partial(SkipAtPVT, TINY, [(), (1,), (), ()], attention=dict(phi_type='conv')),
        ),
        (partial(DualTokenViT, token_size=4), partial(DualTokenViT, attention=dict(token_size=4))),
        (partial(LightViT, window_size=5), partial(LightViT, attention=dict(window_size=5))),
        (
            partial(LookupViT, p2l_out_proj=True, attn_drop_rate=0.1),
            partial(LookupViT, attention=dict(p2l_out_proj=True, attn_drop=0.1)),
        ),
        (
            partial(SkipUformer, reuse='encoder'),
            partial(SkipUformer, attention=dict(mode='encoder')),
        ),
        (
            partial(
                PyramidTransformer,
                **TINY,
                attentions=[dict(type='SoftmaxAttention')] * 4,
                overlap=False,
                position_size=64,
                stage_norm=False,
            ),
            partial(
                PVT, TINY, attention=dict(type='SoftmaxAttention'), mlp='ConvMlp', position_size=64
            ),
        ),
    ],
)
def test_arguments_of_version_0_1(old, new):
    with pytest.warns(DeprecationWarning), torch.device('meta'):
        old = old()
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (old, new())]
    assert shapes[0] == shapes[1]


def test_flags_of_version_0_1_are_refused():
    with pytest.raises(TypeError, match="'overlap'"):
        PVT(TINY, overlap=True)
    with pytest.raises(ValueError, match='stage_norm=True must be a norm'):
        PVTv2(TINY, stage_norm=True)
