"""SkipAt and the plain ViT host: size, cost, any image, chains, options, weights."""

from __future__ import annotations

import pytest
import torch

from helpers.goldens import load_golden, recipe, relative_error
from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import PVT, SkipAtPVT, SkipAtViT, VisionTransformer
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS

SMALL = dict(embed_dims=16, depth=6, num_heads=2)
SMALL_PYRAMID = dict(
    embed_dims=(8, 8, 16, 16), depths=(3, 4, 1, 2), num_heads=(1, 2, 2, 4), mlp_ratios=(2,) * 4
)


def _small(**options) -> SkipAtViT:
    torch.manual_seed(0)
    return SkipAtViT(SMALL, img_size=64, **options).eval()


def _record_attention(model: torch.nn.Module) -> list[tuple]:
    """What each attention layer reuses, and its output, filled when the model is called."""
    calls = []
    for block in model.blocks:
        block.attn.register_forward_hook(
            lambda _, inputs, out: calls.append(((*inputs, None)[2], out))
        )
    return calls


@pytest.mark.parametrize(
    ('arch', 'skipped', 'plain'),
    [
        ('tiny', 5773882, 5717416),
        ('small', 22163578, 22050664),
        ('base', 86793466, 86567656),
    ],
)
def test_params_are_those_that_the_authors_code_uses(arch, skipped, plain):
    with torch.device('meta'):
        models = SkipAtViT(arch), SkipAtViT(arch, ())
    head = (models[0].norm.weight.numel() + 1) * 1000
    assert [num_parameters(model) + head for model in models] == [skipped, plain]


@pytest.mark.parametrize(
    ('arch', 'size', 'plain', 'skipped'),
    [
        ('tiny', (224, 224), 1.253, 1.174),
        ('tiny', (384, 384), 4.682, 3.947),
        ('tiny', (512, 512), 10.43, 8.07),
        ('tiny', (512, 2048), 99.70, 61.26),
        ('small', (224, 224), 4.598, 4.439),
        ('small', (512, 2048), 242.9, 166.0),
        ('base', (224, 224), 17.56, 17.24),
        ('base', (512, 2048), 659.8, 506.0),
    ],
)
def test_multiply_adds(arch, size, plain, skipped):
    with torch.device('meta'):
        models = SkipAtViT(arch, ()), SkipAtViT(arch)
    gmacs = [count_complexity(model, (1, 3, *size)).macs / 1e9 for model in models]
    assert gmacs == pytest.approx([plain, skipped], rel=0.01)


def test_parity_with_the_authors_code():
    gold = load_golden('skipat/golden_skipat_t_224.pt')
    state = recipe().fill_state(gold['state'])
    result = convert(state, 'skipat')
    assert result.is_exact
    dead = [key for key, reason in result.dropped if 'does not attend' in reason]
    assert sorted(dead) == sorted(gold['unused'])
    model = MODELS.build(dict(result.config, out_type='cls_token')).eval()
    model.load_state_dict(result.state)
    calls = _record_attention(model)
    image = recipe().make_input(gold['input']['shape'], gold['input']['seed'])
    with torch.no_grad():
        (token,) = model(image)
    assert relative_error(token, gold['pre_logits']) < 1e-4
    mixed = [out for _, out in calls]
    logits = token @ state['head.weight'].T + state['head.bias']
    assert relative_error(logits, gold['logits']) < 1e-4
    assert relative_error(mixed[2][:1], gold['msa_source']) < 1e-4
    assert relative_error(mixed[8][:1, 1:], gold['phi_last']) < 1e-4
    for out, digest in zip(mixed, gold['msa_digests']):
        assert out.abs().sum().item() == pytest.approx(digest['abs_sum'], rel=1e-4)


def test_plain_weights_fill_what_both_have():
    plain = VisionTransformer(dict(embed_dims=64, depth=12, num_heads=1), img_size=32)
    public = {
        {'position.weight': 'pos_embed'}.get(key, key): value
        for key, value in plain.state_dict().items()
    }
    public['head.weight'] = torch.zeros(5, 64)
    same = convert(public, 'vit', num_heads=1)
    assert same.is_exact and not same.untrained
    result = convert(public, 'vit_to_skipat', num_heads=1)
    assert result.is_exact
    model = MODELS.build(result.config)
    missing = model.load_state_dict(result.state, strict=False).missing_keys
    assert missing == result.untrained
    assert {key.split('.')[1] for key in missing} == set('345678')
    assert all('.attn.phi.' in key for key in missing)


def test_skipped_blocks_hold_no_unused_weights():
    model = _small(skip_layers=(2, 3))
    assert not any('blocks.2.norm1' in name for name, _ in model.named_parameters())
    assert not any('blocks.2.attn.qkv' in name for name, _ in model.named_parameters())
    model.train()(torch.randn(1, 3, 48, 64))[0].sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize('skip_layers', [(1,), (1, 2, 3, 4, 5), (1, 2, 4, 5), (2,)])
def test_any_runs(skip_layers):
    """Every block that attends starts a new chain; the rest pass their own output on."""
    model = _small(skip_layers=skip_layers)
    calls = _record_attention(model)
    model(torch.randn(1, 3, 32, 80))
    outs = [out for _, out in calls]
    for i in skip_layers:
        assert calls[i][0] is outs[i - 1]
        start = max(j for j in range(i) if j not in skip_layers)
        assert torch.equal(outs[i][:, 0], outs[start][:, 0])
        assert not torch.equal(outs[i][:, 1:], outs[start][:, 1:])


def test_chain_is_not_dropped():
    model = _small(skip_layers=(1, 2), drop_path_rate=0.9).train()
    calls = _record_attention(model)
    model(torch.randn(8, 3, 32, 32))
    assert calls[2][0] is calls[1][1]


@pytest.mark.parametrize('skip_layers', [(0,), (0, 1), (6,), (-1,)])
def test_run_without_a_source(skip_layers):
    with pytest.raises(ValueError, match='block'):
        _small(skip_layers=skip_layers)


def test_default_range_follows_the_depth():
    with torch.device('meta'):
        model = SkipAtViT('large')
    skipped = [i for i, block in enumerate(model.blocks) if hasattr(block.attn, 'phi')]
    assert skipped == list(range(6, 18))


def test_without_skipping_it_is_the_plain_vit():
    ours = _small(skip_layers=())
    plain = VisionTransformer(SMALL, img_size=64).eval()
    plain.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours(image)[0], plain(image)[0])


def test_official_initialisation():
    vit, official = _small(), _small(init='official')
    name = 'blocks.0.attn.qkv'
    assert vit.get_submodule(name).weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not vit.get_submodule(name).bias.any()
    expected = (3 * 16) ** -0.5
    assert official.get_submodule(name).weight.std().item() == pytest.approx(expected, rel=0.1)
    assert official.get_submodule(name).bias.any()
    with pytest.raises(ValueError, match='init'):
        _small(init='xavier')


@pytest.mark.parametrize('size', [(64, 64), (65, 131), (17, 200), (8, 8)])
@pytest.mark.parametrize('extra', [(True, 0), (True, 2), (False, 0)])
def test_any_size(size, extra):
    with_cls_token, num_registers = extra
    model = _small(
        out_indices=(1, 3, 5), with_cls_token=with_cls_token, num_registers=num_registers
    )
    maps = model(torch.randn(2, 3, *size))
    sides = tuple(-(-side // 16) for side in size)
    assert [feature.shape for feature in maps] == [(2, 16, *sides)] * 3


@pytest.mark.slow
def test_detection_image():
    with torch.no_grad():
        (feature,) = _small()(torch.randn(1, 3, 800, 1333))
    assert feature.shape == (1, 16, 50, 84) and feature.isfinite().all()


@pytest.mark.parametrize('make', [_small, lambda **kw: SkipAtPVT(SMALL_PYRAMID, **kw).eval()])
def test_recomputation_changes_nothing(make):
    image = torch.randn(2, 3, 64, 48)
    grads = []
    for with_cp in (False, True, 'mlp'):
        torch.manual_seed(0)
        model = make(with_cp=with_cp).train()
        sum(feature.square().mean() for feature in model(image)).backward()
        grads.append([p.grad for p in model.parameters()])
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0])


def test_frozen_stages():
    model = _small(frozen_stages=2).train()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    stem = ('patch_embed', 'position', 'cls_token', 'blocks.0', 'blocks.1')
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith(stem)}
    assert not model.blocks[1].training and model.blocks[2].training


def test_output_types():
    image = torch.randn(2, 3, 64, 64)
    (feature,) = _small()(image)
    torch.testing.assert_close(_small(out_type='avg_featmap')(image)[0], feature.mean((2, 3)))
    assert _small(out_type='cls_token')(image)[0].shape == (2, 16)
    assert not torch.equal(_small(final_norm=False)(image)[0], feature)
    with pytest.raises(ValueError, match='with_cls_token'):
        _small(out_type='cls_token', with_cls_token=False)
    with pytest.raises(ValueError, match='out_type'):
        _small(out_type='map')


def test_layer_depth():
    model = _small()
    depths = {n: model.get_layer_depth('backbone.' + n, 'backbone.')[0] for n in _names(model)}
    assert depths['cls_token'] == depths['position.weight'] == depths['patch_embed.proj.bias'] == 0
    assert depths['blocks.2.attn.phi.fc1.weight'] == 3
    assert depths['norm.weight'] == 7 and model.get_layer_depth('head.weight') == (7, 8)


def _names(model: torch.nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize('phi_type', ['phi', 'conv', 'dwconv', 'identity'])
def test_on_a_pyramid(phi_type):
    model = SkipAtPVT(SMALL_PYRAMID, attention=dict(phi_type=phi_type)).train()
    skipped = [[hasattr(b.attn, 'phi') for b in stage.blocks] for stage in model.stages]
    assert skipped == [[False, True, False], [False, True, True, False], [False], [False, False]]
    maps = model(torch.randn(1, 3, 70, 133))
    assert [tuple(m.shape[2:]) for m in maps] == [(18, 34), (9, 17), (5, 9), (3, 5)]
    sum(feature.sum() for feature in maps).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_pyramid_chain_does_not_cross_a_stage():
    with pytest.raises(ValueError, match='block 0'):
        SkipAtPVT(SMALL_PYRAMID, skip_layers=[(1,), (0,), (), ()])


def test_pyramid_without_skipping_is_pvt():
    plain, ours = PVT(SMALL_PYRAMID), SkipAtPVT(SMALL_PYRAMID, skip_layers=[()] * 4)
    assert _names(plain) == _names(ours)


def test_hidden_width_of_phi():
    model = _small(attention=dict(phi_ratio=3.0))
    phi = next(block.attn.phi for block in model.blocks if hasattr(block.attn, 'phi'))
    assert phi.fc1.out_features == 3 * SMALL['embed_dims']
    assert SkipAtPVT(SMALL_PYRAMID).stages[0].blocks[1].attn.phi.fc1.out_features == 8
