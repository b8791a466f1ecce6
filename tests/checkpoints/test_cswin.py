"""CSWin's public classifiers, and Slide-CSwin started from them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import public_layouts
from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.backbones import CSWinTransformer, SlideCSwin
from mmeffvit.backbones.cswin import CSWIN_ARCHS
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS


def public_names(model: nn.Module) -> dict[str, torch.Tensor]:
    return public_layouts.cswin(model.state_dict())


def test_logits_of_the_public_code():
    gold = load_golden('cswin/golden_tiny_cls224.pt')
    result = convert(recipe().fill_state(gold['state']), 'cswin', part='model')
    assert result.is_exact and not result.untrained
    assert result.config['arch'] == dict(
        embed_dims=64, depths=(1, 2, 21, 1), num_heads=(2, 4, 8, 16)
    )
    model = nn.ModuleDict(
        dict(
            backbone=MODELS.build(result.config), head=nn.ModuleDict(dict(fc=nn.Linear(512, 1000)))
        )
    ).eval()
    model.load_state_dict(result.state)
    image = recipe().make_input(gold['input']['shape'], gold['input']['seed'])
    with torch.no_grad():
        logits = model['head']['fc'](model['backbone'](image)[-1].mean((2, 3)))
    assert relative_error(logits, gold['logits']) < 1e-4


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_every_size_is_told_by_its_weights(arch):
    with torch.device('meta'):
        model = CSWinTransformer(arch)
    result = convert(public_names(model), 'cswin')
    assert result.is_exact and not result.untrained
    assert result.config['arch'] == CSWIN_ARCHS[arch]


def test_an_unknown_width_is_not_guessed():
    model = CSWinTransformer(dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2)))
    with pytest.raises(ValueError, match='heads of a CSWin of width 16, published are 64, 96'):
        convert(public_names(model), 'cswin')
    result = convert(public_names(model), 'cswin', num_heads=(2, 2, 2, 2))
    assert result.is_exact and result.config['arch']['num_heads'] == (2, 2, 2, 2)


@pytest.mark.parametrize('given', [None, (2, 4, 8, 16)])
def test_slide_cswin_starts_from_cswin(given):
    torch.manual_seed(0)
    baseline = CSWinTransformer(dict(embed_dims=64, depths=(1, 1, 1, 1), num_heads=(2, 4, 8, 16)))
    for parameter in baseline.parameters():
        nn.init.normal_(parameter, std=0.1)
    result = convert(public_names(baseline), 'cswin_to_slide', num_heads=given)
    assert result.is_exact
    assert {key.split('.')[0] for key, _ in result.dropped} == {'stage1', 'stage2'}
    assert all('get_v' in key for key, _ in result.dropped)
    model = MODELS.build(result.config).eval()
    assert isinstance(model, SlideCSwin)
    model.load_state_dict(result.state)
    # Slide attention keeps a head's queries, keys and values together.
    attn, theirs = model.stages[1].blocks[0].attn, baseline.stages[1].blocks[0].attn
    rows = theirs.qkv.weight.view(3, 4, 32, 128).transpose(0, 1).reshape(384, 128)
    assert torch.equal(attn.qkv.weight, rows)
    late = model.stages[2].blocks[0].attn, baseline.stages[2].blocks[0].attn
    x = torch.randn(1, 64, 256)
    torch.testing.assert_close(late[0](x, (8, 8)), late[1](x, (8, 8)))
