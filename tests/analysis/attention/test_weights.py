"""Explanations against forward: their weights, applied to the values, give the layer's output."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit.analysis.attention import AttentionQuery, explain
from mmeffvit.analysis.attention.dualtoken import broadcast_weights
from mmeffvit.analysis.attention.slide import tap_weights
from mmeffvit.layers import (
    CrossShapedWindowAttention,
    DualTokenAttention,
    FullAttention,
    LightViTAttention,
    LinearAttention,
    LinearSpatialReductionAttention,
    LookupGather,
    LookupInfuse,
    ModulatedWindowAttention,
    NeighborhoodAttention,
    QuadTreeAttention,
    SlideAttention,
    SoftmaxAttention,
    SpatialReductionAttention,
    WindowAttention,
)
from mmeffvit.layers.attention import split_heads

C = 8
GRID = (8, 12)
SIZE = (32, 48)
POINTS = [(0, 0), (21, 9), (47, 31)]


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64)


def tokens(grid=GRID, extra=0):
    return randn(1, extra + grid[0] * grid[1], C)


def prepare(layer):
    """Draw every parameter at random and remove the output projection."""
    for name, parameter in layer.named_parameters():
        if name.startswith('lepe'):
            nn.init.zeros_(parameter)
        elif not name.startswith('dep_conv.weight'):
            nn.init.normal_(parameter)
    layer.proj = nn.Identity()
    return layer.double().eval()


def index_of(point):
    return point[1] // 4 * GRID[1] + point[0] // 4


def combine(attention, values):
    """The sum of values ``(M, c)`` with the weights of a map over the same grid."""
    assert (attention.weights >= 0).all()
    assert abs(attention.weights.sum() - 1) < 1e-9
    return attention.weights.flatten() @ values


@pytest.mark.parametrize('point', POINTS)
@pytest.mark.parametrize(
    'layer',
    [
        SoftmaxAttention(C, 1),
        SpatialReductionAttention(C, 1),
        WindowAttention(C, 1, window_size=4),
        WindowAttention(C, 1, window_size=4, shift=True),
        CrossShapedWindowAttention(C, 1),
        NeighborhoodAttention(C, 1, kernel_size=3),
        NeighborhoodAttention(C, 1, kernel_size=3, dilation=2),
        SlideAttention(C, 1, kernel_size=3, mask_borders=True, deploy=True),
        SlideAttention(C, 1, kernel_size=5, mask_borders=True, deploy=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_one_head(layer, point):
    torch.manual_seed(0)
    layer, x = prepare(layer), tokens()
    if isinstance(layer, SlideAttention):
        nn.init.zeros_(layer.dep_conv.bias)
    (attention,) = explain(layer, x, GRID, query=AttentionQuery(SIZE, point))
    row, column = point[1] // 4, point[0] // 4
    assert attention.query == (row / 8, column / 12, (row + 1) / 8, (column + 1) / 12)
    values = (layer.kv if hasattr(layer, 'kv') else layer.qkv)(x)[0, :, -C:]
    torch.testing.assert_close(combine(attention, values), layer(x, GRID)[0, index_of(point)])


@pytest.mark.parametrize('point', POINTS)
@pytest.mark.parametrize('kind', [FullAttention, LinearAttention])
def test_attention_to_a_context(kind, point):
    torch.manual_seed(0)
    layer, x = prepare(kind(C, 1)), tokens()
    (attention,) = explain(layer, x, GRID, query=AttentionQuery(SIZE, point))
    # The kernel's normaliser has an epsilon, so that its weights sum to less than 1.
    assert (attention.weights > 0).all() and abs(attention.weights.sum() - 1) < 1e-6
    out = attention.weights.flatten() @ layer.v(x)[0]
    torch.testing.assert_close(out, layer(x, GRID)[0, index_of(point)])


@pytest.mark.parametrize('point', POINTS)
def test_modulated_windows(point):
    torch.manual_seed(0)
    layer, x = prepare(ModulatedWindowAttention(C, 1, window_size=4, shift=True)), tokens()
    (attention,) = explain(layer, x, GRID, query=AttentionQuery(SIZE, point))
    values = layer.qkv(layer.partition(x, GRID)[0] + layer.modulator)[..., -C:]
    numbers = torch.arange(GRID[0] * GRID[1]).view(1, -1, 1)
    places = layer.partition(numbers, GRID)[0].flatten().argsort()
    expected = layer(x, GRID)[0, index_of(point)]
    torch.testing.assert_close(combine(attention, values.flatten(0, 2)[places]), expected)


@pytest.mark.parametrize('point', POINTS)
def test_reduced_keys(point):
    torch.manual_seed(0)
    layer, x = prepare(SpatialReductionAttention(C, 1, sr_ratio=2)), tokens()
    (attention,) = explain(layer, x, GRID, query=AttentionQuery(SIZE, point))
    _, _, v = layer.project(x, GRID)
    blocks = 4 * F.avg_pool2d(attention.weights[None], 2)
    expected = layer(x, GRID)[0, index_of(point)]
    torch.testing.assert_close(blocks.flatten() @ v[0, 0], expected)


@pytest.mark.parametrize('point', POINTS)
def test_pooled_keys(point):
    torch.manual_seed(0)
    layer, x = prepare(LinearSpatialReductionAttention(C, 1, pool_size=4)), tokens()
    (attention,) = explain(layer, x, GRID, query=AttentionQuery(SIZE, point))
    _, _, v = layer.project(x, GRID)
    cells = 6 * F.avg_pool2d(attention.weights[None], (2, 3))
    expected = layer(x, GRID)[0, index_of(point)]
    torch.testing.assert_close(cells.flatten() @ v[0, 0], expected)


@pytest.mark.parametrize('point', POINTS)
def test_both_directions_of_stripes(point):
    torch.manual_seed(0)
    layer, x = prepare(CrossShapedWindowAttention(C, 2, stripe_width=2)), tokens()
    maps = explain(layer, x, GRID, query=AttentionQuery(SIZE, point))
    assert [attention.title for attention in maps] == [
        'keys of the point in 8x2',
        'keys of the point in 2x12',
    ]
    values = layer.qkv(x)[0, :, -C:].chunk(2, -1)
    found = torch.cat([combine(attention, v) for attention, v in zip(maps, values)])
    torch.testing.assert_close(found, layer(x, GRID)[0, index_of(point)])


@pytest.mark.parametrize('separate_banks', [False, True])
def test_taps_of_a_learned_bank(separate_banks):
    """Padding takes part in the softmax, the values pass a bank: its taps have the weights."""
    torch.manual_seed(0)
    layer, x = prepare(SlideAttention(C, 2, separate_banks=separate_banks)), tokens()
    weights = tap_weights(layer, x, GRID)
    assert (weights.sum(-1) - 1).abs().max() < 1e-9
    _, _, v = layer.project(x, GRID)
    value_maps = v.flatten(3).permute(0, 3, 1, 2)
    windows = F.unfold(value_maps, 3, padding=1).view(2, 4, 9, *GRID)  # heads, D, offset
    learned = layer.dep_conv2 if separate_banks else layer.dep_conv1
    bank = (layer.dep_conv.weight + learned.weight).view(4, 9, 9)  # D, tap, offset
    bias = (layer.dep_conv.bias + learned.bias).view(4, 9)
    taps = torch.einsum('cjs,hcsyx->hcjyx', bank, windows) + bias[..., None, None]
    out = torch.einsum('yxhj,hcjyx->yxhc', weights[0], taps).reshape(1, -1, C)
    torch.testing.assert_close(out, layer(x, GRID))


@pytest.mark.parametrize('point', POINTS)
@pytest.mark.parametrize('grows', [False, True])
@pytest.mark.parametrize(('kind', 'levels'), [('A', 3), ('B', 1), ('B', 3)])
def test_levels_of_a_quadtree_that_keeps_every_key(kind, levels, point, grows):
    torch.manual_seed(0)
    layer = QuadTreeAttention(
        C,
        1,
        levels=levels,
        topks=96,
        kind=kind,
        lepe=False,
        value_branch=False,
        max_coarse_grid=1 if grows else None,
    )
    layer, x = prepare(layer), tokens()
    maps = explain(layer, x, GRID, query=AttentionQuery(SIZE, point))
    assert len(maps) == (5 if grows else levels)
    maps = maps[-levels:]
    values = layer.v(x).unflatten(1, GRID).permute(0, 3, 1, 2)
    found = []
    for level, attention in enumerate(maps):
        pooled = F.avg_pool2d(values, 2 ** (levels - 1 - level))
        found.append(combine(attention, pooled.flatten(2)[0].t()))
    # Kind A descends to the values of the finest level wherever a key is kept.
    out = found[-1] if kind == 'A' else layer.level_weight.softmax(0) @ torch.stack(found)
    torch.testing.assert_close(out, layer(x, GRID)[0, index_of(point)])


@pytest.mark.parametrize('point', POINTS)
@pytest.mark.parametrize(
    'options',
    [
        dict(pool_steps=1),
        dict(pool_steps=0),
        dict(pool_steps=1, local='window', window_size=4),
        dict(pool_steps=1, global_tokens='normal'),
        dict(pool_steps=1, global_tokens='combined'),
    ],
    ids=str,
)
def test_global_tokens(options, point):
    torch.manual_seed(0)
    layer = prepare(DualTokenAttention(C, 1, token_size=(2, 3), **options))
    x, g = tokens(), randn(1, 6, C)
    places = [(row, column) for row in range(2) for column in range(3)]
    maps = explain(layer, x, g, GRID, query=AttentionQuery(SIZE, point, places))
    weights = torch.stack([attention.weights.flatten()[index_of(point)] for attention in maps])
    local, update = layer.aggregate(x, g, GRID)
    out = local[0, index_of(point)] + weights @ layer.kv(update)[0, :, C:]
    torch.testing.assert_close(out, layer(x, g, GRID)[0][0, index_of(point)])


@pytest.mark.parametrize('pool_steps', [0, 1])
def test_aggregated_image_tokens_without_global_ones(pool_steps):
    torch.manual_seed(0)
    layer = prepare(DualTokenAttention(C, 1, pool_steps=pool_steps, token_size=(0, 0)))
    x, point = tokens(), (21, 9)
    (attention,) = explain(layer, x, None, GRID, query=AttentionQuery(SIZE, point))
    local, update = layer.aggregate(x, None, GRID)
    side = 2**pool_steps
    blocks = side**2 * F.avg_pool2d(attention.weights[None], side)
    out = local[0, index_of(point)] + blocks.flatten() @ layer.kv(update)[0, :, C:]
    torch.testing.assert_close(out, layer(x, None, GRID)[0][0, index_of(point)])


def test_all_heads_of_the_broadcast():
    torch.manual_seed(0)
    layer = prepare(DualTokenAttention(C, 2, pool_steps=1))
    x, g = randn(2, 30, C), randn(2, 49, C)
    weights = broadcast_weights(layer, x, g, (5, 6))
    assert weights.shape == (2, 2, 30, 49)
    local, update = layer.aggregate(x, g, (5, 6))
    values = split_heads(layer.kv(update)[..., C:], 2)
    out = local + (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(out, layer(x, g, (5, 6))[0])


@pytest.mark.parametrize('point', POINTS)
def test_windows_and_global_tokens_of_lightvit(point):
    torch.manual_seed(0)
    layer, x, g = prepare(LightViTAttention(C, 1, window_size=4)), tokens(), randn(1, 3, C)
    query = AttentionQuery(SIZE, point, [(0, 0), (0, 1), (0, 2)])
    window, *given = explain(layer, x, g, GRID, query=query)
    weights = torch.stack([attention.weights.flatten()[index_of(point)] for attention in given])
    *_, (_, _, v) = layer.project(x, g, GRID)
    padding = (1 - window.weights.sum()) * layer.qkv.bias[-C:]  # a padded token's value is the bias
    out = combine(window, layer.qkv(x)[0, :, -C:]) + padding + weights @ v[0]
    torch.testing.assert_close(out, layer(x, g, GRID)[0][0, index_of(point)])


@pytest.mark.parametrize('norm_position', ['pre', 'post_proj'])
def test_gathering_and_infusion(norm_position):
    torch.manual_seed(0)
    gather = prepare(LookupGather(C, 1, norm_position=norm_position))
    infuse = LookupInfuse(C, norm_position=norm_position, reuse_norm='row').double().eval()
    compressed, lookup, point = randn(1, 6, C), tokens(), (21, 9)
    places = [(row, column) for row in range(2) for column in range(3)]
    query = AttentionQuery(SIZE, point, places)
    shares, *keys = explain(gather, compressed, lookup, ((2, 3), GRID), query=query)
    message, weights = gather(compressed, lookup)
    values = gather.v(gather.norm_k(lookup) if norm_position == 'pre' else lookup)[0]
    for token, attention in enumerate(keys):
        torch.testing.assert_close(combine(attention, values), message[0, token])
    pre = norm_position == 'pre'
    values = infuse.v(infuse.norm_v(compressed)) if pre else infuse.norm_v(infuse.v(compressed))
    infused = infuse(compressed, weights)[0, index_of(point)]
    total = weights[0, 0, :, index_of(point)].sum()
    expected = infused * (total + 1e-6) / total  # the op's guard against an empty sum
    torch.testing.assert_close(combine(shares, values[0]), expected)


def test_extra_tokens_have_maps():
    layer, grid = SoftmaxAttention(C, 2).double(), (3, 5)
    maps = explain(layer, tokens(grid, extra=2), grid, query=AttentionQuery((48, 80), (0, 0)))
    assert [attention.query is None for attention in maps] == [False, True, True]
    assert all(0 < attention.weights.sum() < 1 for attention in maps)


@pytest.mark.parametrize('grid', [(9, 11), (1, 5)])
@pytest.mark.parametrize(
    'layer',
    [
        SpatialReductionAttention(C, 2, sr_ratio=2),
        WindowAttention(C, 2, window_size=4, shift=True),
        CrossShapedWindowAttention(C, 2, stripe_width=2),
        SlideAttention(C, 2, kernel_size=7),
        QuadTreeAttention(C, 2, levels=2, topks=2),
        NeighborhoodAttention(C, 2, kernel_size=5, dilation=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_odd_grids(layer, grid):
    size = (4 * grid[0] - 1, 4 * grid[1] - 3)
    query = AttentionQuery(size, (size[1] - 1, size[0] - 1))
    for attention in explain(layer.double(), tokens(grid), grid, query=query):
        assert (attention.weights >= 0).all()
        assert 0 < attention.weights.sum() <= 1 + 1e-5
        assert attention.query[2:] == (1, 1)
