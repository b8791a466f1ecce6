"""Parity of Uformer and its blocks with the authors' code, through the checkpoint converter."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.checkpoints import convert
from mmeffvit.checkpoints.keymap import Conversion, apply_rules
from mmeffvit.checkpoints.read import unwrap
from mmeffvit.checkpoints.uformer import UFORMER
from mmeffvit.denoising.networks.uformer import (
    Uformer,
    _locally_enhanced_mlp,
)
from mmeffvit.layers import ModulatedWindowAttention, TransformerBlock, WindowAttention
from mmeffvit.registry import MODELS


def _block(dims, heads, window, shift, modulator):
    attention = ModulatedWindowAttention if modulator else WindowAttention
    attn = attention(dims, heads, window_size=window, shift=shift > 0)
    return TransformerBlock(dims, attn, _locally_enhanced_mlp(dims, 4), norm_eps=1e-5).eval()


def _convert_block(state: dict) -> dict:
    result = Conversion()
    prefixed = {f'decoderlayer_0.blocks.0.{key}': value for key, value in state.items()}
    apply_rules(prefixed, UFORMER.rules, result)
    assert not result.unexpected
    return {key.removeprefix('decoder.0.0.'): value for key, value in result.state.items()}


CASES = ['plain', 'shift', 'modulator', 'shift_modulator', 'shift_modulator_nonsquare_patched']


@pytest.mark.parametrize('name', CASES)
def test_blocks_and_their_gradients(name):
    gold = load_golden('skipat/golden_lewin.pt')['cases'][name]
    build = gold['build']
    block = _block(build['dim'], build['heads'], build['win'], build['shift'], build['modulator'])
    state = {k: v for k, v in gold['state'].items() if not k.endswith('position_index')}
    block.load_state_dict(_convert_block(recipe().fill_state(state)))
    x = recipe().make_input(**gold['input']).requires_grad_()
    out = block(x, build['hw'])
    assert relative_error(out[:1], gold['out']) < 1e-5
    assert out.double().sum().item() == pytest.approx(gold['out_digest']['sum'], rel=1e-4)

    out.square().mean().backward()
    digest = gold['grad_in_digest']
    assert x.grad.double().square().sum().item() == pytest.approx(digest['sq_sum'], rel=1e-4)
    grads = _convert_block(
        {key: torch.full(tuple(shape), float(i)) for i, (key, shape) in enumerate(state.items())}
    )
    ours = {key: parameter.grad for key, parameter in block.named_parameters()}
    assert ours.keys() == grads.keys()
    for i, key in enumerate(state):
        target = next(k for k, v in grads.items() if (v == i).any())
        part = ours[target][grads[target] == i].double()
        assert part.square().sum().item() == pytest.approx(gold['grads'][key]['sq_sum'], rel=1e-4)


@pytest.fixture(scope='module')
def uformer_t():
    gold = load_golden('skipat/golden_uformer_t_128.pt')
    result = convert(recipe().fill_state(gold['state']), 'uformer')
    assert result.is_exact
    assert not result.untrained
    assert sum(value.numel() for value in result.state.values()) == gold['num_params']
    model = MODELS.build(dict(result.config, arch='t')).eval()
    model.load_state_dict(result.state)
    return model


def _image(gold: dict) -> torch.Tensor:
    block = recipe().make_input(gold['input']['shape'], gold['input']['seed'])
    return (0.5 + 0.15 * block).clamp(0, 1)


def test_network(uformer_t):
    gold = load_golden('skipat/golden_uformer_t_128.pt')
    with torch.no_grad():
        out = uformer_t(_image(gold))
    assert relative_error(out, gold['out']) < 1e-4


def test_square_of_zeros(uformer_t):
    gold = load_golden('skipat/golden_uformer_pad_square.pt')
    model = Uformer('t', pad_mode='zero_square').eval()
    model.load_state_dict(uformer_t.state_dict())
    with torch.no_grad():
        out = model(_image(gold)).clamp(0, 1)
    assert relative_error(out, gold['out']) < 1e-4


def test_released_wrapping_and_spelling():
    """Keys of a training file: ``module.`` before each, the state beside an optimizer."""
    gold = load_golden('skipat/golden_uformer_t_128.pt')
    state = recipe().fill_state(gold['state'])
    file = {'epoch': 1, 'state_dict': {f'module.{k}': v for k, v in state.items()}}
    assert convert(unwrap(file), 'uformer').is_exact


def test_plain_weights_start_skipat():
    gold = load_golden('skipat/golden_uformer_t_128.pt')
    result = convert(recipe().fill_state(gold['state']), 'uformer_skipat')
    assert result.is_exact
    assert all('.phi.' in key for key in result.untrained)
    # Per decoder block: two tensors of to_q, to_kv, proj each, table, index, modulator.
    assert len(result.dropped) == 8 * 9 + 10
    model = MODELS.build(result.config)
    missing, unexpected = model.load_state_dict(result.state, strict=False)
    assert set(missing) == set(result.untrained) and not unexpected


# Values of the authors' code in float64 on weights filled by a rule on the public key names.


def _rule(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    p = sum(key.encode()) % 100
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    u = torch.frac(0.6180339887498949 * (index + 1) + 0.01 * p)
    return (2 * u - 1).view(shape)


def _ruled(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    r = _rule(key, shape)
    last = key.rsplit('.')[-1]
    if last.endswith('bias'):
        return 0.1 * r
    if len(shape) == 1:
        return 1 + 0.1 * r
    if last == 'weight':
        return 1.5 * r / math.sqrt(math.prod(shape[1:]))
    return 0.2 * r


def _block_shapes(dims: int, heads: int, window: int, modulator: bool) -> dict:
    shapes = {
        'attn.relative_position_bias_table': ((2 * window - 1) ** 2, heads),
        'attn.qkv.to_q.weight': (dims, dims),
        'attn.qkv.to_kv.weight': (2 * dims, dims),
        'attn.proj.weight': (dims, dims),
        'mlp.linear1.0.weight': (4 * dims, dims),
        'mlp.dwconv.0.weight': (4 * dims, 1, 3, 3),
        'mlp.linear2.0.weight': (dims, 4 * dims),
    }
    shapes |= {k.replace('weight', 'bias'): s[:1] for k, s in shapes.items() if 'weight' in k}
    for norm in ('norm1', 'norm2'):
        shapes |= {f'{norm}.weight': (dims,), f'{norm}.bias': (dims,)}
    if modulator:
        shapes['modulator.weight'] = (window**2, dims)
    return shapes


@pytest.mark.parametrize(
    ('grid', 'shift', 'modulator', 'sums', 'first'),
    [
        ((8, 8), 0, False, (5.452765095, 342.536998215), (-0.697071585, 0.436418990)),
        ((8, 8), 2, False, (2.259677782, 362.596735070), (-0.778357797, 0.065591357)),
        ((8, 8), 2, True, (9.830382381, 377.204713722), (-0.898042040, -0.033551975)),
        ((8, 16), 2, True, (19.021347195, 740.279363767), (-0.792286790, 0.021929077)),
    ],
)
def test_block_values(grid, shift, modulator, sums, first):
    block = _block(8, 2, 4, shift, modulator).double()
    shapes = _block_shapes(8, 2, 4, modulator)
    block.load_state_dict(_convert_block({k: _ruled(k, s) for k, s in shapes.items()}))
    with torch.no_grad():
        out = block(_rule('input', (1, grid[0] * grid[1], 8)), grid)
    assert (out.sum().item(), out.abs().sum().item()) == pytest.approx(sums, abs=1e-7)
    assert out[0, 0, :2].tolist() == pytest.approx(first, abs=1e-7)


def _network_shapes(width: int) -> dict:
    shapes = {'input_proj.proj.0.weight': (width, 3, 3, 3), 'input_proj.proj.0.bias': (width,)}
    shapes |= {'output_proj.proj.0.weight': (3, 2 * width, 3, 3), 'output_proj.proj.0.bias': (3,)}
    stages = [(f'encoderlayer_{k}', 1 << k, False) for k in range(4)] + [('conv', 16, False)]
    stages += [(f'decoderlayer_{k}', 16 >> k, True) for k in range(4)]
    for name, scale, modulator in stages:
        for block in range(2):
            of_block = _block_shapes(scale * width, scale, 8, modulator)
            shapes |= {f'{name}.blocks.{block}.{key}': shape for key, shape in of_block.items()}
    for k in range(4):
        wide, narrow = width << (k + 1), width << k
        shapes |= {f'dowsample_{k}.conv.0.weight': (wide, narrow, 4, 4)}
        shapes |= {f'dowsample_{k}.conv.0.bias': (wide,)}
        wide, narrow = width * (16 if k == 0 else 32 >> k), width << (3 - k)
        shapes |= {f'upsample_{k}.deconv.0.weight': (wide, narrow, 2, 2)}
        shapes |= {f'upsample_{k}.deconv.0.bias': (narrow,)}
    return shapes


def test_network_values():
    result = convert({k: _ruled(k, s) for k, s in _network_shapes(4).items()}, 'uformer')
    assert result.is_exact
    model = MODELS.build(result.config).eval().double()
    model.load_state_dict(result.state)
    with torch.no_grad():
        out = model(0.5 + 0.5 * _rule('input', (1, 3, 128, 128)))
    sums = (out.sum().item(), out.abs().sum().item())
    assert sums == pytest.approx((19653.647749102, 85295.942814589), abs=1e-5)
    values = (out[0, 0, 0, 0].item(), out[0, 1, 64, 64].item(), out[0, 2, 127, 127].item())
    assert values == pytest.approx((-1.157476364, 2.486296888, 3.597866085), abs=1e-7)
