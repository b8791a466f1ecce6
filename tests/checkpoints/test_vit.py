"""Plain ViTs from their public homes, in our host and as the start of families built on it."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from helpers.goldens import load_golden, recipe
from mmeffvit.backbones import VisionTransformer
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS

ARCH = dict(embed_dims=128, depth=10, num_heads=2, mlp_ratio=1)


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    model.eval()  # some of OpenMMLab's return nothing
    return model


def official(vit: VisionTransformer) -> dict[str, Tensor]:
    """The names of timm and DeiT."""
    state = {k.replace('position.weight', 'pos_embed'): v for k, v in vit.state_dict().items()}
    return {**state, 'head.weight': torch.zeros(5, 128), 'head.bias': torch.zeros(5)}


def mmpretrain_vit() -> nn.Module:
    vit = pytest.importorskip('mmpretrain.models').VisionTransformer
    arch = dict(embed_dims=128, num_layers=2, num_heads=2, feedforward_channels=256)
    return vit(arch, img_size=32, patch_size=16, out_type='featmap')


def mmseg_vit(**kwargs) -> nn.Module:
    vit = pytest.importorskip('mmseg.models.backbones.vit').VisionTransformer
    sizes = dict(img_size=(32, 32), embed_dims=128, num_layers=2, num_heads=2, mlp_ratio=2)
    return vit(**sizes, **kwargs)


@pytest.mark.parametrize('build', [mmpretrain_vit, mmseg_vit])
def test_vit_of_openmmlab(build):
    theirs = randomised(build())
    state = {f'backbone.{key}': value for key, value in theirs.state_dict().items()}
    result = convert(state, 'vit', num_heads=2)
    assert result.is_exact
    ours = MODELS.build(result.config).eval()
    ours.load_state_dict(result.state)
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(ours(image)[-1], theirs(image)[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('position_resize', 'feature'), [('dino', 'cls'), ('bicubic', 'cls_by_size')]
)
@pytest.mark.parametrize('size', ['64x64', '32x32', '48x80'])
def test_dino_resizes_positions_as_its_code_does(size, position_resize, feature):
    gold = load_golden('selfsup/golden_dino_vit.pt')
    result = convert(
        recipe().fill_state(gold['state']), 'vit', num_heads=gold['config']['num_heads']
    )
    assert result.is_exact
    config = dict(result.config, out_type='cls_token', position_resize=position_resize)
    model = MODELS.build(config).double().eval()
    model.load_state_dict(result.state)
    case = gold['cases'][size]
    image = recipe().make_input(case['input']['shape'], case['input']['seed']).double()
    with torch.no_grad():
        (actual,) = model(image)
    torch.testing.assert_close(actual, case[feature], rtol=1e-5, atol=1e-5)


def test_blocks_in_chunks_are_those_of_the_flat_file():
    flat = official(VisionTransformer(ARCH, img_size=32))
    chunked = {
        re.sub(
            r'blocks\.(\d+)\.', lambda match: f'blocks.{int(match[1]) // 4}.{match[1]}.', key
        ): value
        for key, value in flat.items()
    }
    assert 'blocks.2.9.attn.qkv.weight' in chunked
    expected, actual = (convert(state, 'vit', num_heads=2) for state in (flat, chunked))
    assert actual.is_exact and actual.config == expected.config
    assert actual.state.keys() == expected.state.keys()
    assert all(torch.equal(actual.state[key], value) for key, value in expected.state.items())


def test_the_final_norm_is_where_the_file_has_one():
    assert convert(mmseg_vit(final_norm=True).state_dict(), 'vit', num_heads=2).config['final_norm']
    assert not convert(mmseg_vit().state_dict(), 'vit', num_heads=2).config['final_norm']


def test_skipat_starts_from_openmmlab_too():
    dropped = [key for key, _ in convert(mmpretrain_vit().state_dict(), 'vit', num_heads=2).dropped]
    assert dropped == []
    names = dict(blocks='layers', norm1='ln1')
    state = official(VisionTransformer(ARCH, img_size=32))
    for ours, theirs in names.items():
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    result = convert(state, 'vit_to_skipat', num_heads=2)
    assert result.is_exact
    blocks = {int(key.split('.')[1]) for key, reason in result.dropped if 'Φ' in reason}
    assert blocks == {3, 4, 5, 6, 7, 8}


def test_lookupvit_starts_as_the_vit_on_its_compressed_tokens():
    vit = randomised(VisionTransformer(ARCH, img_size=64, with_cls_token=False, final_norm=False))
    result = convert(
        {**official(vit), 'cls_token': torch.zeros(1, 1, 128)}, 'vit_to_lookupvit', num_heads=2
    )
    assert result.is_exact
    config = dict(result.config, compressed_size=4, attention=dict(norm_position='pre'))
    lookup = MODELS.build(config).eval()
    lookup.load_state_dict(result.state, strict=False)
    block, reference = lookup.blocks[2], vit.blocks[2]
    x = torch.randn(1, 16, 128)
    torch.testing.assert_close(block.refine(x, (4, 4)), reference(x, (4, 4)))
    block.gather.norm_q, block.gather.norm_k = nn.Identity(), nn.Identity()
    torch.testing.assert_close(block.gather(x, x)[0], reference.attn(x, (4, 4)))
    assert torch.equal(block.infuse.norm_v.weight, torch.full((128,), 0.1))


def test_the_position_table_loses_its_class_token():
    vit = VisionTransformer(ARCH, img_size=32)
    result = convert(official(vit), 'vit_to_lookupvit', num_heads=2)
    assert torch.equal(result.state['position.weight'], vit.position.weight[:, 1:])


def test_a_family_by_its_name_of_version_0_1():
    state = official(VisionTransformer(ARCH, img_size=32))
    with pytest.warns(DeprecationWarning, match="'vit-to-skipat' .* 'vit_to_skipat'"):
        result = convert(state, 'vit-to-skipat', num_heads=2)
    assert result.config['type'] == 'SkipAtViT'


def test_the_distillation_token_of_deit_becomes_a_register():
    deit = pytest.importorskip('mmpretrain.models').DistilledVisionTransformer
    arch = dict(embed_dims=128, num_layers=2, num_heads=2, feedforward_channels=256)
    theirs = randomised(deit(arch, img_size=48, patch_size=16, out_type='featmap'))
    head = {'head_dist.weight': torch.zeros(5, 128), 'head_dist.bias': torch.zeros(5)}
    result = convert({**theirs.state_dict(), **head}, 'vit', num_heads=2)
    assert result.is_exact
    assert result.config['num_registers'] == 1
    ours = MODELS.build(result.config).eval()
    ours.load_state_dict(result.state)
    for size in ((48, 48), (64, 80)):
        image = torch.randn(1, 3, *size)
        torch.testing.assert_close(ours(image)[-1], theirs(image)[-1], rtol=1e-4, atol=1e-4)


def test_a_position_table_that_is_not_square_asks_for_its_image_size():
    vit = pytest.importorskip('mmpretrain.models').VisionTransformer
    arch = dict(embed_dims=128, num_layers=2, num_heads=2, feedforward_channels=256)
    theirs = randomised(vit(arch, img_size=(64, 48), patch_size=16, out_type='featmap'))
    with pytest.raises(ValueError, match=r'13 rows is not square: .*--image-size'):
        convert(theirs.state_dict(), 'vit')
    result = convert(theirs.state_dict(), 'vit', num_heads=2, image_size=(64, 48))
    assert result.is_exact
    assert result.config['img_size'] == (64, 48)
    ours = MODELS.build(result.config).eval()
    ours.load_state_dict(result.state)
    for size in ((64, 48), (80, 64)):
        image = torch.randn(1, 3, *size)
        torch.testing.assert_close(ours(image)[-1], theirs(image)[-1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match='13 rows is not one of 96x48'):
        convert(theirs.state_dict(), 'vit', image_size=(96, 48))
    for family in ('vit_to_skipat', 'vit_to_lookupvit'):
        with pytest.raises(ValueError, match='--image-size'):
            convert(theirs.state_dict(), family)
