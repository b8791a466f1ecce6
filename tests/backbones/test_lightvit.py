from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import LightViT
from mmeffvit.layers import LightViTAttention, WindowAttention
from mmeffvit.necks import TokenPooling

SMALLEST = dict(embed_dims=(8, 16, 32), depths=(1, 1, 1), num_heads=(2, 2, 4))


@pytest.mark.parametrize(
    'arch, millions', [('tiny', 9.4), ('small', 19.2), ('base', 35.2)]
)  # published
def test_parameters(arch, millions):
    backbone = LightViT(arch, out_type='raw')
    neck = TokenPooling(backbone.norm.normalized_shape[0])
    params = num_parameters(backbone, neck) + 1281 * 1000
    assert round(params / 1e6, 1) == millions


def test_multiply_adds():
    found = count_complexity(LightViT('tiny', out_type='raw'))
    head = 57 * 256 * 1280 + 1280 * 1000
    # The authors' code also computes keys and values of the global tokens, 8 M that nothing reads.
    unused = 8 * 2 * (2 * 64**2 + 6 * 128**2 + 6 * 256**2)
    assert found.macs + head + unused == pytest.approx(0.772e9, rel=0.001)
    assert found.attention_macs == pytest.approx(0.0424e9, rel=0.001)


@pytest.mark.parametrize('size', [(32, 32), (75, 131)])
def test_any_size_with_a_gradient_for_every_parameter(size):
    model = LightViT(SMALLEST)
    outs = model(torch.randn(2, 3, *size))
    grids = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (8, 16, 32)]
    assert [tuple(out.shape[2:]) for out in outs] == grids
    sum(out.square().sum() for out in outs).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize('grid', [(6, 9), (5, 7)])  # windows of 3 divide the first
def test_without_the_broadcast_it_is_window_attention(grid):
    attn, window = LightViTAttention(16, 2, window_size=3), WindowAttention(16, 2, window_size=3)
    window.load_state_dict(attn.state_dict(), strict=False)
    torch.nn.init.zeros_(attn.kv_global.weight)
    for layer in (attn.qkv, window.qkv):
        torch.nn.init.constant_(layer.bias, 0.3)
    x = torch.randn(2, grid[0] * grid[1], 16)
    out, _ = attn(x, torch.randn(2, 8, 16), grid)
    torch.testing.assert_close(out, window(x, grid))


def test_global_tokens_gather_the_whole_image():
    attn = LightViTAttention(16, 2)
    x, g = torch.randn(2, 30, 16), torch.randn(2, 8, 16)
    _, update = attn(x, g, (5, 6))
    q, _, _ = attn.qkv(g).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    _, k, v = attn.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    weights = F.softmax(q @ k.transpose(2, 3) / 8**0.5, dim=-1)
    torch.testing.assert_close(update, attn.proj((weights @ v).transpose(1, 2).flatten(2)))


def test_no_global_tokens():
    with pytest.raises(ValueError, match='num_tokens=0 must be at least 1'):
        LightViT(SMALLEST, num_tokens=0)


def test_the_arch_says_how_many_global_tokens():
    with torch.device('meta'):
        sizes = {arch: LightViT(arch).global_token.shape[1] for arch in ('tiny', 'small', 'base')}
        chosen = LightViT('small', num_tokens=512).global_token.shape[1]
    assert sizes == dict(tiny=8, small=16, base=24)
    assert chosen == 512


def test_the_last_mlp_gates_image_tokens_alone_unless_a_classifier_reads_the_others():
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    dense, classifier = LightViT(SMALLEST).eval(), LightViT(SMALLEST, out_type='raw').eval()
    classifier.load_state_dict(dense.state_dict(), strict=False)
    seen = {}
    for name, model in (('dense', dense), ('classifier', classifier)):
        mlp = model.stages[-1].blocks[-1].mlp
        mlp.register_forward_hook(lambda _, args, out, name=name: seen.update({name: args[0]}))
        model(image)
    assert seen['dense'].shape[1] == 2 * 2
    assert seen['classifier'].shape[1] == 8 + 2 * 2
    torch.testing.assert_close(seen['dense'], seen['classifier'][:, 8:])
