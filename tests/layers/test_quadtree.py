from __future__ import annotations

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmeffvit.layers import QuadTreeAttention
from mmeffvit.ops import use_backend


def _layer(**options) -> QuadTreeAttention:
    torch.manual_seed(0)
    return QuadTreeAttention(**{**dict(embed_dims=8, num_heads=2, topks=3), **options}).double()


def _tokens(grid, batch=2) -> torch.Tensor:
    return torch.randn(batch, grid[0] * grid[1], 8, dtype=torch.float64)


@pytest.mark.parametrize('kind, levels', list(itertools.product('AB', (1, 2, 4))))
@pytest.mark.parametrize('grid', [(8, 16), (7, 9), (1, 5), (1, 1)])
def test_any_grid(kind, levels, grid):
    layer, x = _layer(kind=kind, levels=levels), _tokens(grid).requires_grad_()
    out = layer(x, grid)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize('kind, levels', list(itertools.product('AB', (1, 3))))
@pytest.mark.parametrize('grid', [(8, 16), (13, 9), (1, 5)])
def test_more_levels_as_the_grid_grows(kind, levels, grid):
    layer, x = _layer(kind=kind, levels=levels, max_coarse_grid=2), _tokens(grid).requires_grad_()
    queries = layer.project(x, grid).queries
    assert queries[0].shape[2] <= 4 and len(queries) >= levels
    layer(x, grid).square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    # The result of an image does not depend on its padding, nor on the others of the batch.
    everything = torch.ones(2, grid[0] * grid[1], dtype=torch.bool)
    torch.testing.assert_close(layer(x, grid), layer(x, grid, key_mask=everything))
    torch.testing.assert_close(layer(x, grid)[1:], layer(x[1:], grid))


@pytest.mark.parametrize('levels', [1, 2, 3])
def test_added_levels_that_keep_every_key_change_nothing(levels):
    options = dict(levels=levels, topks=10**6)
    published, more = _layer(**options), _layer(**options, max_coarse_grid=2)
    x = _tokens((13, 18))
    assert len(more.project(x, (13, 18)).queries) == 5
    torch.testing.assert_close(more(x, (13, 18)), published(x, (13, 18)))


def test_grids_that_fit_get_no_more_levels():
    published, more = _layer(), _layer(max_coarse_grid=4)
    x = _tokens((16, 15))
    assert torch.equal(more(x, (16, 15)), published(x, (16, 15)))


def test_multiply_adds_grow_with_the_image_alone():
    def count(layer, side):
        with FlopCounterMode(display=False) as counter, use_backend('reference'):
            layer(_tokens((side, side), batch=1), (side, side))
        return counter.get_total_flops()

    published, more = _layer(), _layer(max_coarse_grid=4)
    assert count(more, 128) < 4.05 * count(more, 64)
    assert count(published, 128) > 5 * count(published, 64)


@pytest.mark.parametrize('value_act', ['gelu', 'relu'])
def test_padding_is_never_seen(value_act):
    """A grid of full cells gives the same with and without the masks that odd grids use."""
    layer, x = _layer(levels=3, value_act=value_act), _tokens((8, 12))
    everything = torch.ones(2, 96, dtype=torch.bool)
    torch.testing.assert_close(layer(x, (8, 12)), layer(x, (8, 12), key_mask=everything))


@pytest.mark.parametrize('kind', 'AB')
def test_hidden_keys_do_not_matter(kind):
    options = dict(kind=kind, levels=3, lepe=False, value_branch=False)
    layer, x = _layer(**options), _tokens((8, 8))
    context = _tokens((6, 10))
    mask = torch.rand(2, 60) > 0.4
    changed = torch.where(mask.unsqueeze(-1), context, 100 * torch.randn_like(context))
    call = dict(context_grid=(6, 10), key_mask=mask)
    torch.testing.assert_close(
        layer(x, (8, 8), context=context, **call), layer(x, (8, 8), context=changed, **call)
    )


def test_an_image_without_keys_stays_finite():
    layer, x = _layer(levels=3), _tokens((8, 8))
    mask = torch.tensor([[True], [False]]).expand(2, 64)
    assert layer(x, (8, 8), key_mask=mask).isfinite().all()


def test_swapped_sides_of_a_context():
    """Grids of equal area and swapped sides are different grids."""
    options = dict(levels=3, lepe=False, value_branch=False, topks=99)
    layer, x, context = _layer(**options), _tokens((8, 12)), _tokens((12, 8))
    upright = context.unflatten(1, (12, 8)).transpose(1, 2).flatten(1, 2)
    with torch.no_grad():
        out = layer(x, (8, 12), context=context, context_grid=(12, 8))
        # All keys are kept, so transposing the context only renames them.
        same = layer(x, (8, 12), context=upright, context_grid=(8, 12))
        wrong = layer(x, (8, 12), context=context, context_grid=(8, 12))
    torch.testing.assert_close(out, same)
    assert (out - wrong).abs().max() > 1e-3


def test_cross_attention_needs_a_plain_layer():
    with pytest.raises(ValueError, match='lepe=False, value_branch=False'):
        _layer(levels=2)(_tokens((4, 4)), (4, 4), context=_tokens((4, 4)), context_grid=(4, 4))
    with pytest.raises(ValueError, match='context_grid'):
        _layer(levels=2)(_tokens((4, 4)), (4, 4), context=_tokens((4, 4)))


def test_topk_beyond_the_grid():
    x = _tokens((4, 4))
    many, all_keys = _layer(levels=2, topks=10**6), _layer(levels=2, topks=4)
    torch.testing.assert_close(many(x, (4, 4)), all_keys(x, (4, 4)))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(kind='C'), "not 'C'"),
        (dict(levels=0), 'levels=0'),
        (dict(topks=(8,), levels=2), '2 positive numbers'),
        (dict(value_act='tanh'), 'gelu'),
        (dict(num_heads=3), 'not divisible'),
        (dict(max_coarse_grid=0), 'max_coarse_grid=0'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        _layer(**options)


def test_bfloat16_autocast_is_close():
    # All keys are kept: the projections round in bfloat16, so a selection could differ.
    layer, x = _layer(levels=3, topks=99).float(), _tokens((8, 12)).float()
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x, (8, 12))
    assert out.dtype == torch.bfloat16
    assert (out.float() - layer(x, (8, 12))).norm() < 0.05 * out.float().norm()
