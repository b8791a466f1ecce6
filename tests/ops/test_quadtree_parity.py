"""Values and gradients of the attention against recorded ones of the authors' code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.goldens import load_golden, recipe
from mmeffvit.ops import from_quad, map_to_tokens, quadtree_attention, quadtree_fine, to_quad

CASES = [
    'A_self_l3_k16_8_8', 'A_cross_l3_k16_8_8', 'A_self_l1_k8', 'A_self_l2_k1_1',
    'B_self_l3_k16_8_8', 'B_cross_l3_k16_8_8', 'B_cross_l3_k32_16_16', 'B_self_lepe_l3_k8',
    'B_self_lepe_l4_k8', 'B_self_lepe_l1_k8', 'B_self_l2_k1_1',
]  # fmt: skip


def _pyramid(feature_map: Tensor, levels: int) -> list[Tensor]:
    maps = [feature_map]
    for _ in range(levels - 1):
        maps.insert(0, F.avg_pool2d(maps[0], 2))
    return maps


def _inputs(case: dict) -> dict[str, Tensor]:
    make, (H, W) = recipe().make_input, case['size']
    shape = (1, case['heads'] * case['head_dim'], H, W)
    source, value = make(shape, 21, block=4), make(shape, 23, block=4)
    target = make(shape, 22 if case['cross'] else 21, block=4)
    inputs = dict(q=1.5 * source, k=1.5 * target.flip(1), v=value)
    inputs.update(recipe().fill_state({k: tuple(v) for k, v in case['state'].items()}))
    return {name: tensor.requires_grad_() for name, tensor in inputs.items()}


@pytest.mark.parametrize('backend', ['reference', 'torch'])
@pytest.mark.parametrize('name', CASES)
def test_attention(name, backend):
    case = load_golden('quadtree/golden_attention.pt')['cases'][name]
    inputs, levels, heads = _inputs(case), case['levels'], case['heads']

    def quad(feature_map: Tensor, level: int) -> Tensor:
        grid = tuple(feature_map.shape[2:])
        return to_quad(map_to_tokens(feature_map), grid, level, heads)

    maps = {x: _pyramid(inputs[x], levels) for x in 'qkv'}
    pyramids = [[quad(m, level) for level, m in enumerate(maps[x])] for x in 'qkv']
    position = None
    if case['lepe']:
        position = []
        for level, value in enumerate(maps['v']):
            weight, bias = (inputs[f'get_vs.{level}.{p}'] for p in ('weight', 'bias'))
            position.append(quad(F.conv2d(value, weight, bias, padding=1, groups=len(bias)), level))
    level_weights = inputs['weight'].softmax(0) if 'weight' in inputs else None
    out = quadtree_attention(
        *pyramids,
        case['topks'],
        name[0],
        level_weights=level_weights,
        position=position,
        drop_lone_level=True,
        backend=backend,
    )
    out = from_quad(out, case['size'], levels - 1).view(case['out_shape'])
    torch.testing.assert_close(out, case['out'], rtol=1e-4, atol=1e-5)

    out.backward(recipe().make_input(case['out_shape'], case['grad_seed'], block=0))
    for key, expected in case['grads'].items():
        grad = inputs[key].grad
        if grad.shape != expected.shape:
            grad = grad[:, :, ::2, ::2]
        largest = expected.abs().max().item()  # level weights' gradients are sums that cancel
        torch.testing.assert_close(grad, expected, rtol=0, atol=1e-4 * largest + 1e-6)


@pytest.mark.parametrize('backend', ['reference', 'torch'])
def test_index_operators(backend):
    """The two operators of the authors' extension, with a softmax between, are one fine level.

    Their indices are any keys; ours are parents, so every key is a parent of four copies of itself.
    """
    gold = load_golden('quadtree/golden_ops.pt')
    B, P, _, heads = gold['index'].shape
    dims, seeds = gold['out'].shape[-1], gold['seeds']

    def make(name: str, length: int) -> Tensor:  # (B, length, heads, dims) -> (B * heads, ...)
        shape = gold['grad_query'].shape if name == 'query' else (B, length, heads, dims)
        tensor = recipe().make_input(shape, seeds[name], block=gold['block'])
        return tensor.reshape(B, length, heads, dims).transpose(1, 2).flatten(0, 1)

    keys = gold['grad_key'].shape[1]
    q, k, v = make('query', 4 * P), make('key', keys), make('value', keys)
    out, _, _ = quadtree_fine(
        q,
        k.repeat_interleave(4, 1),
        v.repeat_interleave(4, 1),
        gold['index'].permute(0, 3, 1, 2).flatten(0, 1),
        scale=1.0,
        backend=backend,
    )
    expected = gold['out'].transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
