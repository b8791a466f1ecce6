from __future__ import annotations

import pytest
import torch

from helpers.goldens import recipe, require_golden
from helpers.stereo import TREE, tiny_stereo
from mmeffvit import get_model
from mmeffvit.checkpoints import convert
from mmeffvit.stereo import EpipolarAttention, EpipolarTreeAttention, StereoMatching, StereoSample
from mmeffvit.stereo.networks.attention import relative_positions, tree_widths

ATTENTIONS = ['EpipolarAttention', TREE, dict(TREE, kind='A'), dict(TREE, topks=(2, 3, 4))]


def pair(batch=2, size=(40, 61), seed=3):
    generator = torch.Generator().manual_seed(seed)
    wide = torch.rand(batch, 3, size[0], size[1] + 8, generator=generator) - 0.5
    return wide[..., : size[1]].contiguous(), wide[..., 8:].contiguous()


def samples_of(batch=2, size=(40, 61)) -> list[StereoSample]:
    samples = [StereoSample() for _ in range(batch)]
    for sample in samples:
        sample.gt_disparity = torch.full(size, 8.0)
        sample.gt_occlusion = torch.zeros(size, dtype=torch.bool)
        sample.gt_occlusion[:, :8] = True
        sample.gt_occlusion_right = torch.zeros(size, dtype=torch.bool)
    return samples


@pytest.mark.parametrize('attention', ATTENTIONS, ids=str)
@pytest.mark.parametrize('size', [(40, 61), (24, 48), (33, 97)])
def test_any_size_trains_and_predicts(attention, size):
    model = tiny_stereo(attention).train()
    left, right = pair(size=size)
    losses = model(dict(left=left, right=right), samples_of(size=size), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    out = model.eval()(dict(left=left, right=right), mode='predict')
    assert out[1].disparity.shape == out[1].occlusion.shape == size


@pytest.mark.parametrize('attention', ATTENTIONS, ids=str)
def test_a_batch_equals_its_pairs(attention):
    model = tiny_stereo(attention).eval()
    left, right = pair()
    with torch.no_grad():
        both = model.run(left, right)
        for index in range(2):
            one = model.run(left[index : index + 1], right[index : index + 1])
            torch.testing.assert_close(one.disparity[0], both.disparity[index])
            torch.testing.assert_close(one.occlusion[0], both.occlusion[index])


def test_sttr_features_have_the_statistics_of_each_pair():
    from mmeffvit.stereo import STTRFeatures

    torch.manual_seed(0)
    model = STTRFeatures(16)
    images = torch.rand(4, 3, 32, 40)
    with torch.no_grad():
        both = model(images)
        for index in range(2):
            torch.testing.assert_close(
                model(images[index::2]), both[index::2], atol=1e-4, rtol=1e-4
            )


def test_the_assignment():
    model = tiny_stereo().eval()
    with torch.no_grad():
        out = model.run(*pair())
    rows = out.assignment[..., :-1, :].sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows))
    assert out.raw_disparity.min() >= 0
    W = out.assignment.shape[-1] - 1
    beyond = torch.ones(W, W, dtype=torch.bool).triu(1)
    assert out.assignment[..., :-1, :-1][..., beyond].eq(0).all()


@pytest.mark.parametrize('width', [12, 16, 21])
@pytest.mark.parametrize('relative', [False, True])
def test_one_level_is_full_attention(width, relative):
    torch.manual_seed(0)
    full = EpipolarAttention(16, 2)
    tree = EpipolarTreeAttention(16, 2, levels=1)
    tree.load_state_dict(full.state_dict(), strict=False)
    x, context = torch.randn(2, 3, width, 16)
    tables = [relative_positions(width, 16, 1.0, x)] if relative else None
    torch.testing.assert_close(tree(x, context, tables), full(x, context, tables))


def test_the_last_logits_of_a_tree_are_full():
    torch.manual_seed(0)
    full, tree = EpipolarAttention(16, 2), EpipolarTreeAttention(16, 2, levels=3)
    tree.load_state_dict(full.state_dict(), strict=False)
    x, context = torch.randn(2, 3, 13, 16)
    tables = [
        relative_positions(w, 16, 2.0**level, x) for level, w in enumerate(tree_widths(13, 3))
    ]
    own = [relative_positions(13, 16, 1.0, x)]
    torch.testing.assert_close(tree.logits(x, context, tables), full.logits(x, context, own))


@pytest.mark.parametrize('attention', ATTENTIONS[:2], ids=str)
def test_lines_in_groups_and_recomputed_layers_change_nothing(attention, monkeypatch):
    from mmeffvit.stereo.networks import transformer

    model = tiny_stereo(attention).train()
    left, right = pair()
    whole = model.logits(left, right).detach()
    monkeypatch.setattr(transformer, 'CHUNK_ENTRIES', 2000)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(left, right), whole)
    inputs = dict(left=left, right=right)
    grads = []
    for with_cp in (False, True):
        model.transformer.with_cp = with_cp
        model.zero_grad()
        sum(model(inputs, samples_of(), mode='loss').values()).backward()
        grads.append(model.transformer.self_layers[0].attn.in_proj.weight.grad.clone())
    torch.testing.assert_close(*grads)


def test_autocast_is_close():
    model = tiny_stereo().eval()
    left, right = pair()
    with torch.no_grad():
        exact = model.run(left, right).assignment
        with torch.autocast('cpu', dtype=torch.bfloat16):
            close = model.run(left, right).assignment
    assert close.dtype == torch.float32 and (exact - close).abs().max() < 0.05


def test_the_preprocessor_normalises_and_checks():
    process = StereoMatching(**StereoMatching.zoo['sttr']).data_preprocessor
    left = torch.full((3, 10, 12), 128, dtype=torch.uint8)
    out = process(dict(inputs=dict(left=[left], right=[left])))['inputs']
    assert out['left'].shape == (1, 3, 10, 12)
    assert out['left'][0, 0, 0, 0].item() == pytest.approx((128 - 123.675) / 58.395)
    with pytest.raises(ValueError, match='left image is 10x12 and the right one 10x11'):
        process(dict(inputs=dict(left=[left], right=[left[..., :-1]])))
    with pytest.raises(ValueError, match='crop them'):
        process(dict(inputs=dict(left=[left, left[:, 1:]], right=[left, left[:, 1:]])), True)


def test_published_sizes():
    with torch.device('meta'):
        sttr, tree = get_model('sttr'), get_model('quadtree_sttr')
    count = sum(p.numel() for p in sttr.parameters())
    assert count == 2_513_811 - 256  # a norm of the authors' is not used
    assert sum(p.numel() for p in tree.parameters()) == count + 12 * 4


@pytest.mark.parametrize('family', ['sttr', 'sttr_quadtree'])
def test_checkpoints_convert(family):
    gold = require_golden('stereo/golden_sttr_128x160.pt')
    result = convert(recipe().fill_state(gold['state']), family)
    assert result.is_exact
    assert {reason for _, reason in result.dropped} == {
        'norms use the pair at hand',
        'not used by the authors',
    }
    assert len(result.untrained) == (12 if family == 'sttr_quadtree' else 0)
    assert 'stride' in result.notes[0]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(levels=0), 'levels=0'),
        (dict(topks=(1, 2)), 'topks=.* 3 positive'),
        (dict(kind='C'), "kind='C'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        EpipolarTreeAttention(16, 2, **options)
