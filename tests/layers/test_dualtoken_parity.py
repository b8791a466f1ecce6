"""Parity of blocks, stem and merge with the public training code."""

from __future__ import annotations

import pytest
import torch

from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.checkpoints.dualtoken import DUALTOKEN
from mmeffvit.checkpoints.keymap import Conversion, apply_rules
from mmeffvit.layers import BiDimMlp, ConvStem, DualPatchMerging, DualTokenBlock
from mmeffvit.layers.dualtoken import AveragePooling, ConvEncoder
from mmeffvit.ops import map_to_tokens, tokens_to_map


def _case(name: str) -> dict:
    return load_golden('dualtoken/golden_blocks.pt')['cases'][name]


def _load(module, case: dict, public_prefix: str, our_prefix: str):
    """Fill a module by the recorded names, which are those inside ``public_prefix``."""
    state = recipe().fill_state(case['state'])
    result = Conversion()
    apply_rules({public_prefix + key: v for key, v in state.items()}, DUALTOKEN.rules, result)
    assert not result.unexpected
    module.load_state_dict({k.removeprefix(our_prefix): v for k, v in result.state.items()})
    return module.eval()


def _tokens(dim: int, size: tuple[int, int], seed: int, block: int):
    return map_to_tokens(recipe().make_input((2, dim, *size), seed, block))


@pytest.mark.parametrize('stage', [1, 2, 3])
@pytest.mark.parametrize('token_mlp', ['mix', 'mlp'])
def test_block(token_mlp, stage):
    case = _case(f'block_{token_mlp}_stage{stage}')
    block = DualTokenBlock(
        case['dim'],
        case['heads'],
        case['mlp_ratio'],
        pool_steps=case['num_downs'],
        kernel_size=case['dw_kernel'],
        token_mlp=token_mlp,
    )
    _load(block, case, 'stages.0.0.', 'stages.0.blocks.0.')
    (seed_x, seed_g), (block_x, block_g) = case['input_seeds'], case['input_blocks']
    x = _tokens(case['dim'], case['size'], seed_x, block_x)
    g = _tokens(case['dim'], (7, 7), seed_g, block_g)
    with torch.no_grad():
        x, g = block(x, g, case['size'])
    assert relative_error(x[0, :: case['out_x_step']], case['out_x']) < 1e-5
    assert relative_error(g[0], case['out_g']) < 1e-5
    for stream, name in ((x, 'out_x_digest'), (g, 'out_g_digest')):
        assert recipe().digest(stream)['sq_sum'] == pytest.approx(case[name]['sq_sum'], rel=1e-5)


def test_conv_encoder():
    case = _case('conv_encoder_k5')
    encoder = ConvEncoder(case['dim'], 5)
    _load(encoder, case, 'stages.0.0.attn.wsas.0.', 'stages.0.blocks.0.attn.local.')
    x = _tokens(case['dim'], case['size'], case['input_seed'], case['input_block'])
    with torch.no_grad():
        out = tokens_to_map(encoder(x, case['size']), case['size'])
    assert relative_error(out, case['out']) < 1e-5


def test_convolution_between_poolings():
    case = _case('conv_ln_relu')
    pooling = AveragePooling(case['dim'], 2)
    _load(pooling, case, 'stages.0.0.attn.wsas.1.', 'stages.0.blocks.0.attn.pool.')
    x = recipe().make_input(
        (2, case['dim'], *case['size']), case['input_seed'], case['input_block']
    )
    # The first pooling undoes this upsampling; the second is applied to the recorded output too.
    x, grid = map_to_tokens(x.repeat_interleave(2, 2).repeat_interleave(2, 3)), (30, 36)
    with torch.no_grad():
        out, out_grid = pooling(x, grid)
    expected = torch.nn.functional.avg_pool2d(case['out'], 2)
    assert out_grid == (7, 9)
    assert relative_error(tokens_to_map(out, out_grid), expected) < 1e-5


@pytest.mark.parametrize('size', ['64x96', '75x101'])
def test_stem(size):
    case = _case(f'lightvit_stem_{size}')
    stem = _load(ConvStem(3, case['embed_dim']), case, 'patch_embed.', 'stem.')
    image = recipe().make_input((1, 3, *case['size']), case['input_seed'])
    with torch.no_grad():
        out, grid = stem(image)
    assert grid == tuple(case['out_size'])
    assert relative_error(out, case['out']) < 1e-5


def test_gated_mlp():
    case = _case('lightvit_biattn_mlp')
    mlp = BiDimMlp(case['dim'], case['hidden'])
    _load(mlp, case, 'stages.0.0.mlp.', 'stages.0.blocks.0.mlp.')
    x = _tokens(case['dim'], case['size'], case['input_seed'], case['input_block'])
    with torch.no_grad():
        assert relative_error(mlp(x, case['size']), case['out']) < 1e-5


@pytest.mark.parametrize('size', ['8x12', '9x13'])
def test_merge(size):
    case = _case(f'lightvit_merge_{size}')
    merge = DualPatchMerging(case['dim'], case['out_dim'])
    _load(merge, case, 'stages.1.0.', 'stages.1.merge.')
    (seed_x, seed_g), (block_x, block_g) = case['input_seeds'], case['input_blocks']
    x = _tokens(case['dim'], case['size'], seed_x, block_x)
    g = _tokens(case['dim'], (case['num_tokens'], 1), seed_g, block_g)
    with torch.no_grad():
        x, g, grid = merge(x, g, tuple(case['size']))
    assert grid == tuple(case['out_size'])
    assert relative_error(x, case['out_x']) < 1e-5
    assert relative_error(g, case['out_g']) < 1e-5
