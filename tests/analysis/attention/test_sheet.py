from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from helpers.tool_runs import TINY_ARCH, run_tool
from mmeffvit.analysis.attention import (
    AttentionMap,
    AttentionQuery,
    LayerExplanation,
    explain_backbone,
)
from mmeffvit.analysis.attention.sheet import draw_sheet, image_area
from mmeffvit.backbones import (
    CSWinTransformer,
    DualTokenViT,
    LightViT,
    LookupViT,
    PVTv2,
    QuadTreeTransformer,
    SkipAtViT,
    SlidePVT,
    SwinTransformer,
)
from mmeffvit.denoising import SkipUformer, UniFormerUNet

SIZE = (75, 110)
TWO_STREAM = dict(embed_dims=(8, 16, 32), depths=(1, 2, 1))
STAGES = dict(embed_dims=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8))
VIT = dict(embed_dims=16, depth=4, num_heads=2)


def explain_at(backbone, layers=None, tokens=None):
    image = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    query = AttentionQuery(image_area(backbone, SIZE), (60, 70), tokens)
    return explain_backbone(backbone.eval(), image, query, layers)


BACKBONES = [
    lambda: PVTv2(TINY_ARCH),
    lambda: QuadTreeTransformer(TINY_ARCH),
    lambda: SlidePVT(TINY_ARCH),
    lambda: SwinTransformer(STAGES),
    lambda: CSWinTransformer({**STAGES, 'num_heads': (2, 2, 4, 8)}),
    lambda: DualTokenViT(TWO_STREAM),
    lambda: DualTokenViT(TWO_STREAM, attention=dict(token_size=0)),
    lambda: DualTokenViT(
        TWO_STREAM, attention=dict(global_tokens='normal', token_size=(1, 8), token_mlp='mlp')
    ),
    lambda: LightViT({**TWO_STREAM, 'num_heads': (1, 2, 4)}),
    lambda: LookupViT(VIT),
    lambda: SkipAtViT(VIT),
    lambda: SkipUformer(dict(embed_dims=4, depths=(1,) * 9)),
]


@pytest.mark.parametrize('build', BACKBONES)
def test_every_backbone_has_maps(build):
    torch.manual_seed(0)
    backbone = build()
    explanations = explain_at(backbone)
    assert any(explanation.maps for explanation in explanations)
    for _, maps, note in explanations:
        assert bool(note) != bool(maps)
        for attention in maps:
            assert attention.weights.ndim == 2
            assert (attention.weights >= 0).all() and 0 < attention.weights.sum() < float('inf')
            if attention.query is not None:
                top, left, bottom, right = attention.query
                assert 0 <= top < bottom <= 1 and 0 <= left < right <= 1
    for module in backbone.modules():
        assert not module._forward_pre_hooks and not module._forward_hooks


def test_weights_of_the_global_tokens_sum_to_one():
    places = [(row, column) for row in range(3) for column in range(4)]
    backbone = DualTokenViT(TWO_STREAM, attention=dict(token_size=(3, 4)))
    for _, maps, _ in explain_at(backbone, tokens=places):
        total = sum(attention.weights for attention in maps)
        torch.testing.assert_close(total, torch.ones_like(total))
    name, maps, _ = explain_at(backbone, layers=[-1])[0]
    assert name == 'stages.2.blocks.0.attn'
    assert maps[0].weights.shape == (3, 4)
    assert maps[0].query == (1 / 3, 2 / 4, 2 / 3, 3 / 4)


def test_weights_of_compressed_tokens_sum_to_one():
    explanations = explain_at(LookupViT(VIT, compressed_size=(2, 3)))
    shares, *keys = next(maps for name, maps, _ in explanations if name == 'blocks.0.gather')
    assert shares.weights.shape == (2, 3) and len(keys) == 4
    for attention in (shares, *keys):
        torch.testing.assert_close(attention.weights.sum(), torch.tensor(1.0))


def test_a_skipped_run_has_no_maps_and_one_line():
    explanations = explain_at(SkipAtViT(VIT, skip_layers=(1, 2)))
    assert [len(maps) for _, maps, _ in explanations] == [2, 0, 0, 2]
    assert explanations[0][1][1].title == 'keys of extra token 0'
    sheet = draw_sheet(np.zeros((*SIZE, 3), np.uint8), explanations, SIZE)
    texts = [text.get_text() for axes in sheet.axes for text in axes.texts]
    assert len(sheet.axes) == 5
    assert texts[0].startswith('blocks.1.attn to blocks.2.attn: reuses the attention')


def test_backbones_that_cannot_be_explained():
    with pytest.raises(ValueError, match='UniFormerUNet takes clips'):
        explain_at(UniFormerUNet((4, 8), (1, 1), ('local', 'global'), head_dims=8))
    with pytest.raises(ValueError, match='No module of Identity has a name like'):
        explain_at(nn.Identity())
    with pytest.raises(ValueError, match='There is no attention layer 4; they are 0 to 3'):
        explain_at(SkipAtViT(VIT), layers=[4])


def test_the_sheet_is_brightest_where_the_weight_is():
    weights = torch.zeros(4, 8)
    weights[1, 6] = 1
    maps = [AttentionMap('title', weights, (0.5, 0.0, 0.75, 0.125))]
    sheet = draw_sheet(np.zeros((32, 64, 3), np.uint8), [LayerExplanation('layer', maps)], (32, 64))
    (axes,) = sheet.axes
    heat = axes.images[1]
    assert list(heat.get_extent()) == [0, 64, 32, 0]
    assert np.unravel_index(heat.get_array().argmax(), (4, 8)) == (1, 6)
    assert axes.patches[0].get_bbox().bounds == (0, 16, 8, 8)
    assert axes.get_title() == 'title' and axes.get_ylabel() == 'layer'


@pytest.fixture
def files(tmp_path):
    config = tmp_path / 'config.py'
    backbone = dict(type='mmeffvit.DualTokenViT', arch=TWO_STREAM, init_cfg=None)
    config.write_text(f"default_scope = 'mmeffvit'\nmodel = dict(backbone={backbone})\n")
    state = {f'backbone.{k}': v for k, v in DualTokenViT(TWO_STREAM).state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'model.pth')
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'foreign.pth')
    cv2.imwrite(str(tmp_path / 'image.png'), np.random.randint(0, 255, (*SIZE, 3), np.uint8))
    (tmp_path / 'broken.png').write_text('no image')
    return tmp_path


def test_command(monkeypatch, capsys, files):
    def run(*options, config='config.py', weights='model.pth', image='image.png', out='o/s.png'):
        monkeypatch.chdir(files)
        arguments = [config, weights, image, out, *options]
        return run_tool(monkeypatch, 'visualization/attention.py', *arguments)

    assert not run('--tokens', '3,3', '0,6', '--layers', '-1', '--point', '3', '70')
    assert cv2.imread(str(files / 'o' / 's.png')) is not None
    for options, changes, message in [
        (['--tokens', '7,0'], {}, 'Token 7,0 is outside the grid of 7x7 tokens.'),
        (['--tokens', 'a,0'], {}, 'a,0 must be ROW,COLUMN'),
        (['--point', 110, 0], {}, '--point 110 0 is outside the image of 110x75 pixels.'),
        (['--layers', 9], {}, 'There is no attention layer 9'),
        ([], dict(config='no.py'), 'no.py does not exist'),
        ([], dict(weights='foreign.pth'), 'The weights are not those of this DualTokenViT'),
        ([], dict(weights='no.pth'), 'no.pth'),
        ([], dict(image='broken.png'), 'broken.png cannot be read'),
        ([], dict(out='s.pdf'), 's.pdf must end in .png'),
    ]:
        assert run(*options, **changes) == 2
        assert message in capsys.readouterr().err
