"""Plain ViTs of timm and mmpretrain in our host: outputs and gradients, also at odd sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helpers.peers import assert_same, ours_of, randomised
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS

timm = pytest.importorskip('timm')
SIZES = dict(img_size=48, patch_size=16, embed_dim=192, depth=2, num_heads=3, mlp_ratio=2)
ODD = dict(dynamic_img_size=True, dynamic_img_pad=True)


def timm_vit(**options) -> nn.Module:
    options = {**SIZES, 'num_classes': 5, **options}
    return randomised(timm.models.VisionTransformer(**options))


def as_map(tokens: Tensor, extra: int, height: int, width: int) -> Tensor:
    return tokens[:, extra:].unflatten(1, (height, width)).permute(0, 3, 1, 2)


def assert_same_gradients(ours: nn.Module, theirs: nn.Module, **options) -> None:
    """Gradients of every parameter, brought to our names as weights are."""
    grads = {
        key: torch.zeros_like(value) if value.grad is None else value.grad
        for key, value in theirs.named_parameters()
    }
    result = convert(grads, 'vit', **options)
    parameters = dict(ours.named_parameters())
    assert len(result.mapped) >= len(parameters) - 1  # CLIP's patch embedding has no bias
    for _, key in result.mapped:
        value, expected = parameters[key], result.state
        torch.testing.assert_close(value.grad, expected[key], rtol=1e-5, atol=1e-5, msg=key)


VARIANTS = {
    'plain': dict(),
    'no class token, pooled norm': dict(class_token=False, global_pool='avg'),
    'no class position': dict(no_embed_class=True),
    'layer scale (DeiT III)': dict(no_embed_class=True, init_values=0.1),
    'DINOv2': dict(init_values=0.1, patch_size=14, img_size=42),
    'registers': dict(init_values=0.1, reg_tokens=4, no_embed_class=True),
    'registers with positions': dict(reg_tokens=4),
    'registers, no class token': dict(class_token=False, reg_tokens=4, no_embed_class=True,
                                      global_pool='avg'),
    'CLIP': dict(pre_norm=True, norm_layer=lambda width, **_: nn.LayerNorm(width, eps=1e-5)),
    'no biases': dict(qkv_bias=False),
}  # fmt: skip


@pytest.mark.parametrize('variant', VARIANTS)
def test_variants_of_timm(variant):
    theirs = timm_vit(**VARIANTS[variant], **ODD)
    ours = ours_of(theirs, 'vit', position_resize='timm')
    patch = theirs.patch_embed.patch_size[0]
    for height, width in ((3 * patch, 3 * patch), (50, 71)):
        ours.zero_grad(), theirs.zero_grad()
        grid = -(-height // patch), -(-width // patch)
        image = torch.randn(2, 3, height, width, dtype=torch.float64)
        assert_same(
            lambda x: ours(x)[-1:],
            lambda x, grid=grid: [
                as_map(theirs.forward_features(x), theirs.num_prefix_tokens, *grid)
            ],
            image,
        )
    if variant in ('plain', 'DINOv2', 'CLIP'):  # elsewhere parameters of theirs are added up
        assert_same_gradients(ours, theirs)


def test_quick_gelu_is_asked_for():
    theirs = timm_vit(**VARIANTS['CLIP'], act_layer='quick_gelu')
    result = convert(theirs.state_dict(), 'vit')
    assert any('QuickGELU' in note for note in result.notes) and 'mlp' not in result.config
    with pytest.raises(ValueError, match="activation='relu' must be one of gelu, quick_gelu"):
        convert(theirs.state_dict(), 'vit', activation='relu')
    ours = ours_of(theirs, 'vit', dict(activation='quick_gelu'))
    image = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    assert_same(
        lambda x: ours(x)[-1:], lambda x: [as_map(theirs.forward_features(x), 1, 3, 3)], image
    )


@pytest.mark.parametrize(
    ('width', 'heads'), [(1152, 16), (1280, 16), (1408, 16), (1664, 16), (384, 6), (768, 12)]
)
def test_heads_of_published_widths(width, heads):
    theirs = timm_vit(embed_dim=width, depth=1, num_heads=heads, mlp_ratio=0.125)
    ours = ours_of(theirs, 'vit')
    assert ours.blocks[0].attn.num_heads == heads
    image = torch.randn(1, 3, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = as_map(theirs.forward_features(image), 1, 3, 3)
        torch.testing.assert_close(ours(image)[-1], expected, rtol=1e-5, atol=1e-5)


def test_heads_that_no_tensor_tells_are_asked_for():
    for width, found in ((1536, '16 or 24'), (160, 'of no published size')):
        state = timm_vit(embed_dim=width, depth=1, num_heads=4, mlp_ratio=0.1).state_dict()
        with pytest.raises(ValueError, match=rf'width {width} it is {found}: .*--num-heads'):
            convert(state, 'vit')
        assert convert(state, 'vit', num_heads=8).config['arch']['num_heads'] == 8
        with pytest.raises(ValueError, match='num_heads=7 does not divide'):
            convert(state, 'vit', num_heads=7)
    with pytest.raises(ValueError, match='num_heads=8 has no effect on family swin'):
        convert(state, 'swin', num_heads=8)


def test_distilled_deit_keeps_its_token():
    theirs = randomised(timm.models.deit.VisionTransformerDistilled(**SIZES, num_classes=5))
    ours = ours_of(theirs, 'vit')
    image = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    assert_same(
        lambda x: ours(x)[-1:], lambda x: [as_map(theirs.forward_features(x), 2, 3, 3)], image
    )


def test_distilled_deit_classifies_by_both_heads():
    theirs = randomised(timm.models.deit.VisionTransformerDistilled(**SIZES, num_classes=5))
    result = convert(theirs.state_dict(), 'vit', part='model')
    assert result.is_exact
    heads = pytest.importorskip('mmpretrain.models.heads')
    backbone = MODELS.build(dict(result.config, out_type='distilled'))
    head = heads.DeiTClsHead(num_classes=5, in_channels=192)
    classifier = nn.ModuleDict(dict(backbone=backbone, head=head)).double().eval()
    classifier.load_state_dict(result.state)
    image = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        actual = head(backbone(image))
        torch.testing.assert_close(actual, theirs(image), rtol=1e-5, atol=1e-5)


def test_distillation_is_dropped_by_choice():
    theirs = timm.models.deit.VisionTransformerDistilled(**SIZES, num_classes=5)
    result = convert(theirs.state_dict(), 'vit', part='model', drop_distillation=True)
    assert result.is_exact and result.config['num_registers'] == 0
    assert [key for key, _ in result.dropped] == [
        'dist_token',
        'head_dist.weight',
        'head_dist.bias',
    ]
    assert 'head.fc.weight' in result.state
    rows = theirs.pos_embed[:, [0, *range(2, 11)]]
    assert torch.equal(result.state['backbone.position.weight'], rows)


def test_a_position_table_that_is_not_square_needs_its_image_size():
    theirs = timm_vit(img_size=(64, 48))
    for family in ('vit', 'vit_to_skipat', 'vit_to_lookupvit'):
        with pytest.raises(ValueError, match=r'13 rows is not square: .*48 64 or 64 48'):
            convert(theirs.state_dict(), family)
    for family in ('vit', 'vit_to_lookupvit'):
        result = convert(theirs.state_dict(), family, image_size=(64, 48))
        assert result.config['img_size'] == (64, 48)
    with pytest.raises(ValueError, match='13 rows is not one of 48x48'):
        convert(theirs.state_dict(), 'vit', image_size=(48, 48))
    result = convert(theirs.state_dict(), 'vit', image_size=(64, 48))
    ours = MODELS.build(result.config).double().eval()
    ours.load_state_dict(result.state)
    image = torch.randn(1, 3, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = as_map(theirs.forward_features(image), 1, 4, 3)
        torch.testing.assert_close(ours(image)[-1], expected, rtol=1e-5, atol=1e-5)


def test_what_stays_refused_says_what_is_missing():
    from timm.layers import SwiGLUPacked

    for options, lacking in (
        (dict(qk_norm=True), 'queries and keys'),
        (dict(global_pool='map'), 'attention pooling'),
    ):
        result = convert(timm_vit(**options).state_dict(), 'vit')
        assert any(lacking in key for key in result.unexpected), result.unexpected
    gated = timm_vit(mlp_layer=SwiGLUPacked, mlp_ratio=4).state_dict()
    with pytest.raises(ValueError, match='SwiGLU'):
        convert(gated, 'vit')
    pooled = timm_vit(class_token=False, global_pool='avg').state_dict()
    assert any('pooling' in key for key in convert(pooled, 'vit', part='model').unexpected)


ARCH = dict(embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=384)


def mmpretrain_vits():
    backbones = pytest.importorskip('mmpretrain.models.backbones')
    sizes = dict(img_size=48, patch_size=16)
    maps = dict(out_type='featmap')
    yield backbones.DeiT3(ARCH, **sizes)
    yield backbones.VisionTransformer(ARCH, **sizes, **maps, layer_scale_init_value=0.1)
    yield backbones.DistilledVisionTransformer(ARCH, **sizes)
    clip = dict(pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5))
    yield backbones.VisionTransformer(ARCH, **sizes, **maps, **clip)


@pytest.mark.parametrize('index', range(4))
def test_variants_of_mmpretrain(index):
    theirs = randomised(list(mmpretrain_vits())[index])
    theirs.out_type = 'featmap'
    if index == 0:  # its DeiT III reads the first norm of a block twice, and never the second
        for layer in theirs.layers:
            layer.ln2.load_state_dict(layer.ln1.state_dict())
    ours = ours_of(theirs, 'vit')
    for height, width in ((48, 48), (50, 71)):
        image = torch.randn(2, 3, height, width, dtype=torch.float64)
        ours.zero_grad(), theirs.zero_grad()
        assert_same(lambda x: ours(x)[-1:], lambda x: theirs(x)[-1:], image)
    if index in (1, 3):
        assert_same_gradients(ours, theirs)
