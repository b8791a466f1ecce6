from __future__ import annotations

import math

import pytest
import torch

from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.analysis import count_complexity
from mmeffvit.checkpoints import convert
from mmeffvit.denoising.networks.uniformer import (
    GlobalBlock,
    LocalBlock,
    SkipUniFormerUNet,
    UniFormerUNet,
)
from mmeffvit.layers.space_time import (
    ReusedSpaceTimeAttention,
    SharedSpaceTimeAttention,
    SpaceTimeAttention,
)

SMALL = dict(embed_dims=(8, 16), depths=(1, 2), kinds=('local', 'global'), head_dims=8)


@pytest.mark.parametrize('name', ['local_block', 'global_block', 'global_block_eps'])
def test_blocks_match_public_code(name):
    gold = load_golden('skipat/golden_uniformer_blocks.pt')['cases'][name]
    build = gold['build']
    if name == 'local_block':
        block = LocalBlock(build['dim'])
    else:
        eps = 1e-6 if name.endswith('eps') else 1e-5
        attn = SpaceTimeAttention(build['dim'], build['num_heads'])
        block = GlobalBlock(build['dim'], attn, norm_eps=eps)
    block.eval().load_state_dict(recipe().fill_state(gold['state']))
    x = recipe().make_input(**gold['input'])
    with torch.no_grad():
        out = block(x)
    out = out if isinstance(out, torch.Tensor) else out[0]
    assert relative_error(out, gold['out']) < 1e-6


def _ruled(key: str, shape) -> torch.Tensor:
    p = sum(key.encode()) % 100
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    r = (2 * torch.frac(0.6180339887498949 * (index + 1) + 0.01 * p) - 1).view(shape)
    if key == 'input':
        return r
    last = key.rsplit('.')[-1]
    if last == 'running_var':
        return 1 + 0.5 * r
    if last == 'running_mean' or last.endswith('bias'):
        return 0.1 * r
    return 1 + 0.1 * r if len(shape) == 1 else 1.5 * r / math.sqrt(math.prod(shape[1:]))


@pytest.mark.parametrize(
    ('block', 'sums', 'first'),
    [
        (LocalBlock(8), (-12.042503214, 439.505472006), (-0.216918558, -0.568618509)),
        (
            GlobalBlock(8, SpaceTimeAttention(8, 2), norm_eps=1e-5),
            (-7.563393218, 303.249640025),
            (-0.577046622, -1.211262056),
        ),
    ],
)
def test_block_values(block, sums, first):
    block = block.double().eval()
    state = {k: v for k, v in block.state_dict().items() if v.is_floating_point()}
    block.load_state_dict({k: _ruled(k, v.shape) for k, v in state.items()}, strict=False)
    with torch.no_grad():
        out = block(_ruled('input', (1, 8, 3, 4, 5)))
    out = out if isinstance(out, torch.Tensor) else out[0]
    assert (out.sum().item(), out.abs().sum().item()) == pytest.approx(sums, abs=1e-7)
    assert out[0, :2, 0, 0, 0].tolist() == pytest.approx(first, abs=1e-7)


def test_published_cost_and_saving():
    plain = count_complexity(UniFormerUNet(), (1, 3, 7, 128, 128)).macs
    reusing = count_complexity(SkipUniFormerUNet(), (1, 3, 7, 128, 128)).macs
    assert plain == pytest.approx(93.2e9, rel=0.01)
    assert reusing == pytest.approx(77.1e9, rel=0.01)
    assert 1 - reusing / plain == pytest.approx(0.17, abs=0.005)


@pytest.mark.parametrize('window', [None, (1, 2, 4), (3, 4, 4)])
def test_every_way_to_keep_attention_agrees(window):
    torch.manual_seed(0)
    models = [
        SkipUniFormerUNet(**SMALL, attention=dict(window=window, keep=keep)).eval()
        for keep in ('matrix', 'qk', 'half')
    ]
    x = torch.rand(2, 3, 3, 10, 14)
    with torch.no_grad():
        outs = []
        for model in models:
            model.load_state_dict(models[0].state_dict())
            outs.append(model(x))
    assert outs[0].shape == x.shape
    torch.testing.assert_close(outs[0], outs[1])
    assert 0 < relative_error(outs[0], outs[2]) < 1e-3


def test_window_over_everything_is_no_window():
    torch.manual_seed(0)
    model = UniFormerUNet(**SMALL).eval()
    windowed = UniFormerUNet(**SMALL, attention=dict(window=(3, 8, 8))).eval()
    windowed.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(x), windowed(x))


def test_decoder_with_reused_attention_equals_plain_one_that_computes_the_same():
    """With the encoder's and decoder's blocks alike, reuse changes nothing but the products."""
    torch.manual_seed(0)
    encoder = GlobalBlock(16, SharedSpaceTimeAttention(16, 2))
    decoder = GlobalBlock(16, ReusedSpaceTimeAttention(16, 2))
    state = encoder.state_dict()
    for part in ('weight', 'bias'):
        state[f'attn.v.{part}'] = state.pop(f'attn.qkv.{part}').chunk(3)[2]
    decoder.load_state_dict(state)
    x = torch.rand(1, 16, 2, 4, 4)
    with torch.no_grad():
        expected, source = encoder(x)
        actual, _ = decoder(x, source)
    torch.testing.assert_close(actual, expected)


def test_trained_weights_start_the_reusing_network():
    plain = UniFormerUNet(depths=(1, 1, 2, 1))
    result = convert(plain.state_dict(), 'uniformer_skipat')
    assert result.is_exact
    values = plain.state_dict()['decoder.2.1.attn.qkv.weight'][2 * 128 :]
    assert torch.equal(result.state['decoder.2.1.attn.v.weight'], values)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kinds=('local', 'globall')), 'kinds='),
        (dict(depths=(1,)), 'one entry per scale'),
        (dict(norm='layer'), 'norm='),
        (dict(attention=dict(keep='all')), 'keep='),
        (dict(attention=dict(window=(2, 2))), 'window=.* three positive numbers'),
        (dict(attention=dict(window=(2, 0, 2))), 'window=.* three positive numbers'),
        (dict(attention=dict(type='SoftmaxAttention')), 'names a layer'),
        (dict(with_cp='half'), 'with_cp='),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SkipUniFormerUNet(**{**SMALL, **options})


def test_window_that_does_not_divide_the_clip_is_refused():
    model = UniFormerUNet(**SMALL, attention=dict(window=(2, 2, 2)))
    with pytest.raises(ValueError, match='divisors of the number of frames'):
        model(torch.rand(1, 3, 3, 8, 8))


def test_another_attention_layer_takes_the_place():
    """Softmax attention over all tokens of the clip is the default layer without windows."""
    torch.manual_seed(0)
    model = UniFormerUNet(**SMALL).eval()
    other = UniFormerUNet(**SMALL, attention=dict(type='SoftmaxAttention')).eval()
    other.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 3, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(other(x), model(x))
    without = UniFormerUNet(**SMALL, attention=dict(qkv_bias=False))
    assert all(block.attn.qkv.bias is None for block in without.encoder[1])


@pytest.mark.parametrize('model', [UniFormerUNet, SkipUniFormerUNet])
def test_arguments_of_version_0_1(model):
    options = dict(window=(1, 2, 4))
    if model is SkipUniFormerUNet:
        options['keep'] = 'qk'
    with pytest.warns(DeprecationWarning, match=r'write attention=dict\('):
        old = model(**SMALL, **options)
    attn = old.encoder[1][0].attn
    assert {name: getattr(attn, name) for name in options} == options
    assert old.size_divisor == 8
    with pytest.raises(TypeError, match="no argument 'windows'"):
        model(**SMALL, windows=(1, 2, 4))


@pytest.mark.parametrize('with_cp', ['mlp', 'all'])
@pytest.mark.parametrize('keep', ['matrix', 'half', 'qk'])
def test_recomputing_changes_neither_gradients_nor_statistics(with_cp, keep):
    results = []
    for mode in (False, with_cp):
        torch.manual_seed(0)
        options = dict(attention=dict(window=(1, 2, 4), keep=keep), drop_path_rate=0.2)
        model = SkipUniFormerUNet(**SMALL, **options, with_cp=mode).train()
        model(torch.rand(2, 3, 3, 10, 14)).square().mean().backward()
        results.append([p.grad for p in model.parameters()] + list(model.buffers()))
    assert len(list(model.buffers())) == 3 * 4
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)
