"""The parts of matchers give the numbers of the authors' code."""

from __future__ import annotations

import pytest
import torch

from helpers.goldens import recipe, relative_error, require_golden
from helpers.pairs import fill_part, valid_masks
from mmeffvit.matching import (
    CrossBlock,
    DualSoftmax,
    FineMatching,
    LoFTRBlock,
    MatchingTransformer,
    OptimalTransport,
    ResNetFPN,
)
from mmeffvit.matching.networks.coarse import CellMatches
from mmeffvit.matching.networks.fine import gather_windows
from mmeffvit.ops import best_of_matrix, map_to_tokens, sine_position_table

TREE = dict(type='QuadTreeAttention', levels=3, lepe=False, value_branch=False)
BLOCKS = require_golden('matching/golden_blocks.pt')['cases']
POSITIONS = require_golden('matching/golden_position.pt')['cases']
BACKBONES = require_golden('matching/golden_backbone.pt')
TRANSFORMERS = require_golden('matching/golden_coarse_transformer.pt')['cases']
COARSE = require_golden('matching/golden_coarse_matching.pt')['cases']
FINE = require_golden('matching/golden_fine.pt')['cases']


def block_of(case: dict) -> torch.nn.Module:
    if 'merge.weight' in case['state']:
        block = LoFTRBlock(case['dim'], 8, dict(type='LinearAttention'))
    else:
        topks = (8, 4, 4) if case['key_grid'] == (12, 16) else (6, 4, 4)
        kind = 'B' if 'attn.py_att.weight' in case['state'] else 'A'
        block = CrossBlock(case['dim'], 4, dict(TREE, topks=topks, kind=kind))
    return fill_part(block, case['state'], 'loftr_coarse.layers.0.', 'transformer.layers.0.')


@pytest.mark.parametrize('name', BLOCKS)
def test_blocks(name):
    case = BLOCKS[name]
    make, inputs = recipe().make_input, case['input']
    batch, dim = inputs['batch'], case['dim']
    maps = [
        make((batch, dim, *grid), inputs[seed], block=inputs['block']).requires_grad_()
        for grid, seed in ((case['query_grid'], 'query_seed'), (case['key_grid'], 'key_seed'))
    ]
    x, context = (map_to_tokens(m) for m in maps)
    masks = (None, None)
    if case['mask'] is not None:
        h, w, h1, w1 = case['mask']
        masks = valid_masks([(h, w), (h1, w1)], batch, [case['query_grid'], case['key_grid']])
        masks = [mask.flatten(1) for mask in masks]
    if not case['cross']:
        context = x
    block = block_of(case)
    out = block(x, case['query_grid'], context, case['key_grid'], *masks)
    assert relative_error(out, case['out']) < 1e-5

    grad = case['grad']
    (out * make(out.shape, grad['seed'], block=0)).sum().backward()
    found = maps[0].grad.flatten()[:: grad['query']['step']]
    assert relative_error(found, grad['query']['values']) < 1e-4
    if case['cross']:
        total = maps[1].grad.double().abs().sum().item()
        assert total == pytest.approx(grad['key_digest']['abs_sum'], rel=1e-4)


@pytest.mark.parametrize('name', POSITIONS)
def test_position_table(name):
    case = POSITIONS[name]
    channels = case['values'].shape[1]
    table = sine_position_table((256, 256), torch.empty(channels), 'historical' in name)
    table = table.unflatten(1, (256, 256))[0]
    found = torch.stack([table[y, x] for y, x in case['positions_yx']])
    assert (found - case['values']).abs().max() < 2e-4
    assert table.double().abs().sum().item() == pytest.approx(case['digest']['abs_sum'], rel=1e-6)


@pytest.mark.parametrize('name', BACKBONES['cases'])
def test_backbone(name):
    case = BACKBONES['cases'][name]
    model = ResNetFPN(1, case['config']['initial_dim'], case['config']['block_dims'])
    assert sum(p.numel() for p in model.parameters()) == case['num_params']
    fill_part(model, case['state'], 'backbone.', 'backbone.')
    images = recipe().make_input(case['input']['shape'], case['input']['seed'])
    with torch.no_grad():
        coarse, fine = model((0.5 + 0.15 * images).clamp(0, 1))
    assert relative_error(coarse[:, ::4], case['coarse']) < 1e-5
    assert relative_error(fine[:, ::8, ::2, ::2], case['fine']) < 1e-5


@pytest.mark.parametrize('size', BACKBONES['limits'])
def test_backbone_takes_any_size(size):
    H, W = map(int, size.split('x'))
    recorded = BACKBONES['limits'][size]
    with torch.no_grad():
        sizes = [tuple(m.shape[-2:]) for m in ResNetFPN(1, 8, (8, 8, 8))(torch.rand(1, 1, H, W))]
    if not isinstance(recorded, str):
        assert sizes == recorded
    assert sizes == [(-(-H // 8), -(-W // 8)), (-(-H // 8) * 4, -(-W // 8) * 4)]


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_coarse_transformer(name):
    case, config = TRANSFORMERS[name], TRANSFORMERS[name]['config']
    if config['block_type'] == 'quadtree':
        attention, block = dict(TREE, topks=config['topks']), 'CrossBlock'
    else:
        attention, block = dict(type='LinearAttention'), 'LoFTRBlock'
    model = MatchingTransformer(
        config['d_model'], config['nhead'], attention, block, config['layer_names']
    )
    fill_part(model, case['state'], 'loftr_coarse.', 'transformer.')
    grids = [tuple(grid) for grid in case['grids']]
    x, y = (
        map_to_tokens(recipe().make_input((1, config['d_model'], *grid), seed, block=2))
        for grid, seed in zip(grids, case['input']['seeds'])
    )
    with torch.no_grad():
        outs = model(x, y, *grids)
    for out, side in zip(outs, '01'):
        expected = case[f'out{side}']
        error = (out[:, :: case['token_step']] - expected).abs().amax(-1) / expected.abs().max()
        # As many rows may differ as had near ties in the tree's selection.
        assert (error > 1e-4).sum() <= case['topk']['rows_under_1e_5']
        total = out.double().abs().sum().item()
        assert total == pytest.approx(case[f'digest{side}']['abs_sum'], rel=1e-5)


def coarse_inputs(case: dict) -> tuple[torch.Tensor, torch.Tensor]:
    make, seed, channels = recipe().make_input, case['input']['seed'], case['channels']
    (h0, w0), (h1, w1), (sy, sx) = *case['grids'], case['shift']
    big = 1.1 * make((2, channels, 40, 40), seed, block=1)
    second = big[:, :, sy : sy + h1, sx : sx + w1]
    second = second + 0.3 * make((2, channels, h1, w1), seed + 1, block=0)
    gain = case['input']['gain']
    return map_to_tokens(gain * big[:, :, :h0, :w0]), map_to_tokens(gain * second)


@pytest.mark.parametrize('name', COARSE)
def test_coarse_matching(name):
    case, config = COARSE[name], COARSE[name]['config']
    options = dict(threshold=config['thr'], border=config['border_rm'])
    if config['match_type'] == 'sinkhorn':
        model = OptimalTransport(**options, iterations=config['skh_iters'])
        fill_part(model, case['state'], 'coarse_matching.', 'coarse.')
    else:
        model = DualSoftmax(**options, temperature=config['dsmax_temperature'])
    x, y = coarse_inputs(case)
    grids = [tuple(grid) for grid in case['grids']]
    masks = [
        None if mask is None else mask.flatten(1)
        for mask in valid_masks(case['masks'], case['batch'], grids)
    ]
    with torch.no_grad():
        confidence = model.confidence(x, y, *masks)
        found = model.select(model.best(x, y, *masks), *grids, *masks)
        dense = model.select(best_of_matrix(confidence), *grids, *masks)
    assert (confidence[:, :: case['conf_row_step']] - case['conf_rows']).abs().max() < 1e-5
    assert confidence.double().sum().item() == pytest.approx(case['conf_digest']['sum'], rel=1e-5)
    for cells in (found, dense):
        assert torch.equal(cells.pair, case['b_ids'])
        assert torch.equal(cells.cell0, case['i_ids'])
        assert torch.equal(cells.cell1, case['j_ids'])
        torch.testing.assert_close(cells.confidence, case['mconf'], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', FINE)
def test_fine_matching(name):
    case = FINE[name]
    coarse_dims, fine_dims = case['coarse_dim'], case['fine_dim']
    model = FineMatching(coarse_dims, fine_dims, 8, case['window'])
    public = {k: v for k, v in case['state'].items()}
    fill_part(model, public, '', 'fine.')
    grids = [tuple(grid) for grid in case['grids']]
    shapes = [(fine_dims, *(4 * side for side in grid)) for grid in grids]
    shapes += [(coarse_dims, *grid) for grid in grids]
    fine0, fine1, *coarse = (
        recipe().make_input((case['batch'], *shape), seed, block=case['input']['block'])
        for shape, seed in zip(shapes, case['input']['seeds'])
    )
    coarse0, coarse1 = (map_to_tokens(m) for m in coarse)
    ids = case['ids']
    cells = CellMatches(ids['b'], ids['i'], ids['j'], torch.zeros(len(ids['b'])))
    args = (fine0, fine1, coarse0, coarse1, *cells[:3], *grids)
    with torch.no_grad():
        windows = model.windows(*args)
        out = model(*args)
    for found, side in zip(windows, '01'):
        expected = case[f'windows{side}']
        assert relative_error(found[:: case['window_step']], expected) < 1e-5
    assert relative_error(out, case['expec_f']) < 1e-5


def test_windows_at_the_border_are_padded():
    fine_map = torch.arange(1.0, 65.0).view(1, 1, 8, 8)
    window = gather_windows(fine_map, torch.tensor([0]), torch.tensor([0]), (2, 2), 5)
    assert window.view(5, 5)[:2].eq(0).all() and window.view(5, 5)[2, 2] == 1
