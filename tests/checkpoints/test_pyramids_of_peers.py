"""PVT, MiT and Swin of mmdet, mmseg, mmpretrain and timm in our hosts, outputs and gradients."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from helpers.peers import assert_same, ours_of, randomised
from mmeffvit.backbones import MixVisionTransformer, SwinTransformer
from mmeffvit.checkpoints import convert
from mmeffvit.denoising.networks.uformer import Uformer
from mmeffvit.layers import WindowAttention
from mmeffvit.registry import MODELS

SMALL = dict(embed_dims=16, num_layers=[1, 2, 1, 1], num_heads=[1, 2, 5, 8])


def random_image(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 3, height, width, dtype=torch.float64)


def assert_same_gradients(ours: nn.Module, theirs: nn.Module, family: str) -> None:
    """Gradients of every parameter, brought to our names as weights are."""
    grads = {key: value.grad for key, value in theirs.named_parameters()}
    expected = convert(grads, family).state
    for key, value in ours.named_parameters():
        torch.testing.assert_close(value.grad, expected[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('family', ['pvt', 'pvtv2', 'mit'])
def test_pvt_and_mit_of_openmmlab(family):
    if family == 'mit':
        theirs = pytest.importorskip('mmseg.models.backbones').MixVisionTransformer(
            **SMALL, mlp_ratio=2
        )
    else:
        pvt = pytest.importorskip('mmdet.models.backbones.pvt')
        build = dict(pvt=pvt.PyramidVisionTransformer, pvtv2=pvt.PyramidVisionTransformerV2)
        theirs = build[family](**SMALL, mlp_ratios=[2, 2, 2, 2])
    family = 'pvt' if family == 'pvt' else 'pvtv2'
    theirs = randomised(theirs)
    ours = ours_of(theirs, family)
    # mmdet's PVT cuts off what patches do not cover, and has no reduction of smaller maps.
    for size in ((64, 96), (128, 96) if family == 'pvt' else (75, 109)):
        assert_same(ours, theirs, random_image(*size))
    assert_same_gradients(ours, theirs, family)


@pytest.mark.parametrize(
    ('size', 'width', 'depths'),
    [
        ('b0', 32, [2, 2, 2, 2]),
        ('b1', 64, [2, 2, 2, 2]),
        ('b2', 64, [3, 4, 6, 3]),
        ('b3', 64, [3, 4, 18, 3]),
        ('b4', 64, [3, 8, 27, 3]),
        ('b5', 64, [3, 6, 40, 3]),
    ],
)
def test_sizes_of_mit(size, width, depths):
    """By the settings of mmseg's SegFormer configs."""
    arch = MixVisionTransformer.archs[size]
    assert (arch['embed_dims'][0], list(arch['depths'])) == (width, depths)
    if size == 'b0':
        mit = pytest.importorskip('mmseg.models.backbones').MixVisionTransformer
        theirs = mit(embed_dims=width, num_layers=depths, num_heads=[1, 2, 5, 8])
        models = theirs, MixVisionTransformer(size)
        counts = [sum(p.numel() for p in model.parameters()) for model in models]
        assert counts[0] == counts[1]


def test_slide_starts_from_the_pvt_of_mmdet():
    pvt = pytest.importorskip('mmdet.models.backbones.pvt').PyramidVisionTransformer
    state = pvt(**SMALL, mlp_ratios=[2, 2, 2, 2], pretrain_img_size=64).state_dict()
    result = convert(state, 'pvt_to_slide')
    assert result.is_exact, (result.missing, result.unexpected, result.mismatched)
    assert result.config['position_size'] == 64


@pytest.mark.parametrize('linear', [False, True])
def test_pvtv2_of_timm(linear):
    timm = pytest.importorskip('timm')
    theirs = timm.models.pvt_v2.PyramidVisionTransformerV2(
        depths=(1, 2, 1, 1),
        embed_dims=(16, 32, 80, 128),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(2, 2, 2, 2),
        linear=linear,
    )
    theirs = randomised(theirs)
    ours = ours_of(theirs, 'pvtv2')

    def maps(x):
        x = theirs.patch_embed(x)
        for stage in theirs.stages:
            x = stage(x)
            yield x

    for size in ((64, 96), (75, 109)):
        assert_same(ours, lambda x: list(maps(x)), random_image(*size))
    theirs.reset_classifier(0)
    assert_same_gradients(ours, theirs, 'pvtv2')


def test_swin_v2_is_refused_by_what_it_needs():
    timm = pytest.importorskip('timm')
    theirs = timm.models.swin_transformer_v2.SwinTransformerV2(
        img_size=64, window_size=4, embed_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)
    )
    for family in ('swin', 'swin_to_slide'):
        with pytest.raises(ValueError, match=r'our model lacks: .*logit_scale.*SwinV2'):
            convert(theirs.state_dict(), family)


def test_the_widths_of_a_pyramid_tell_its_heads_or_it_is_refused():
    timm = pytest.importorskip('timm')
    theirs = timm.models.pvt_v2.PyramidVisionTransformerV2(
        depths=(1, 1, 1, 1), embed_dims=(16, 32, 64, 128), num_heads=(1, 2, 4, 8)
    )
    with pytest.raises(ValueError, match=r'widths \(16, 32, 64, 128\), which no published size'):
        convert(theirs.state_dict(), 'pvtv2')
    for wrong in ((1, 2, 4), 1):
        with pytest.raises(ValueError, match=r'must be 4 numbers, one per stage'):
            convert(theirs.state_dict(), 'pvtv2', num_heads=wrong)
    with pytest.raises(ValueError, match=r'num_heads=\(1, 3, 4, 8\) does not divide the width 32'):
        convert(theirs.state_dict(), 'pvtv2', num_heads=(1, 3, 4, 8))
    theirs = randomised(theirs)
    ours = ours_of(theirs, 'pvtv2', dict(num_heads=(1, 2, 4, 8)))
    image = random_image(64, 96)
    with torch.no_grad():
        expected = theirs.forward_features(image)
    torch.testing.assert_close(ours(image)[-1], expected, rtol=1e-5, atol=1e-5)


SWIN = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))


def swin_of(library: str) -> nn.Module:
    if library == 'mmdet':
        return pytest.importorskip('mmdet.models.backbones').SwinTransformer(**SWIN)
    if library == 'mmseg':
        return pytest.importorskip('mmseg.models.backbones').SwinTransformer(**SWIN)
    backbones = pytest.importorskip('mmpretrain.models.backbones')
    return backbones.SwinTransformer(
        SWIN, out_indices=(0, 1, 2, 3), pad_small_map=library == 'mmpretrain, padded'
    )


@pytest.mark.parametrize('library', ['mmdet', 'mmseg', 'mmpretrain', 'mmpretrain, padded'])
def test_swin_of_openmmlab(library):
    """At sizes where a side of a map fits in a window, and at an odd one."""
    theirs = randomised(swin_of(library))
    rule = 'mmpretrain' if library == 'mmpretrain' else 'mmdet'
    ours = ours_of(theirs, 'swin', dict(shift_rule=rule))
    sizes = [(224, 320)] if rule == 'mmpretrain' else [(64, 64), (224, 320), (250, 333)]
    for size in sizes:
        assert_same(ours, theirs, random_image(*size))
    assert_same_gradients(ours, theirs, 'swin')


@pytest.mark.parametrize('window', [7, 4])
def test_swin_of_timm(window):
    timm = pytest.importorskip('timm')
    theirs = randomised(
        timm.models.SwinTransformer(
            img_size=(224, 320), embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8),
            window_size=window, num_classes=0,
        )
    )  # fmt: skip
    ours = ours_of(theirs, 'swin', out_indices=-1)
    assert ours.shift_rule == 'timm'
    assert_same(
        ours, lambda x: [theirs.forward_features(x).permute(0, 3, 1, 2)], random_image(224, 320)
    )


def test_the_shift_rule_follows_the_file():
    config = convert(swin_of('mmdet').state_dict(), 'swin').config
    assert config['shift_rule'] == 'mmdet'
    state = swin_of('mmdet').state_dict()
    classifier = {key: value for key, value in state.items() if key[:5] not in ('norm0', 'norm1')}
    result = convert(classifier, 'swin')
    assert result.config['shift_rule'] == 'mmpretrain'
    assert any('--shift-rule' in note for note in result.notes)
    with pytest.raises(ValueError, match="shift_rule='mine' must be one of"):
        WindowAttention(16, 1, shift_rule='mine')


def test_tables_of_other_windows_are_interpolated(caplog):
    small = SwinTransformer(SWIN, window_size=7)
    for name, value in small.named_parameters():
        if 'relative_position_bias_table' in name:
            nn.init.normal_(value)
    large = SwinTransformer(SWIN, window_size=12)
    with caplog.at_level(logging.INFO):
        large.load_state_dict(small.state_dict())
    name = 'stages.0.blocks.1.attn.relative_position_bias_table'
    table = small.get_parameter(name).T.view(1, 1, 13, 13)
    expected = nn.functional.interpolate(table, size=(23, 23), mode='bicubic')
    torch.testing.assert_close(large.get_parameter(name), expected.flatten(2)[0].T)


def test_uformer_without_modulators():
    arch = dict(embed_dims=8, depths=(1, 1, 1, 1, 1, 1, 1, 1, 1))
    plain = Uformer(arch, decoder_attention=WindowAttention).eval()
    assert not any('modulator' in name for name, _ in plain.named_parameters())
    public = {}
    for key, value in plain.state_dict().items():
        for ours, theirs in (
            ('stem.0', 'input_proj.proj.0'), ('head', 'output_proj.proj.0'),
            ('bottleneck.', 'conv.blocks.'), ('mlp.fc1', 'mlp.linear1.0'),
            ('mlp.fc2', 'mlp.linear2.0'), ('mlp.dwconv', 'mlp.dwconv.0'),
        ):  # fmt: skip
            key = key.replace(ours, theirs)
        parts = key.split('.')
        if parts[0] in ('downs', 'ups'):
            kind = ('dowsample', 'conv') if parts[0] == 'downs' else ('upsample', 'deconv')
            key = f'{kind[0]}_{parts[1]}.{kind[1]}.0.{parts[2]}'
        elif parts[0] in ('encoder', 'decoder'):
            key = f'{parts[0]}layer_{parts[1]}.blocks.{".".join(parts[2:])}'
        if '.qkv.' in key:
            width = len(value) // 3
            public[key.replace('qkv', 'qkv.to_q')] = value[:width]
            public[key.replace('qkv', 'qkv.to_kv')] = value[width:]
        else:
            public[key] = value
    result = convert(public, 'uformer')
    assert result.is_exact, (result.missing, result.unexpected, result.mismatched)
    other = MODELS.build(result.config).eval()
    other.load_state_dict(result.state)
    image = torch.rand(1, 3, 100, 60)
    with torch.no_grad():
        torch.testing.assert_close(other(image), plain(image))
    modulated = Uformer(arch).eval()
    for module in modulated.modules():
        if hasattr(module, 'modulator'):
            nn.init.zeros_(module.modulator)
    modulated.load_state_dict(result.state, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(modulated(image), plain(image))
