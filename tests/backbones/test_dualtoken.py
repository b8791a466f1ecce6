from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import DualTokenViT
from mmeffvit.backbones.dualtoken import ATTENTION_OPTIONS
from mmeffvit.layers.dualtoken import AveragePooling
from mmeffvit.necks import TokenPooling
from mmeffvit.ops import map_to_tokens, tokens_to_map

SMALLEST = dict(embed_dims=(8, 16, 32), depths=(2, 2, 2))
NUM_CLASSES = 1000


def build(arch='tiny', **options) -> DualTokenViT:
    """A backbone; options of its attention layer are put in their place."""
    attention = {name: options.pop(name) for name in ATTENTION_OPTIONS if name in options}
    return DualTokenViT(arch, attention=attention, **options)


def classifier(**options) -> nn.Sequential:
    backbone = build(out_type='raw', **options)
    width = backbone.norm.normalized_shape[0]
    return nn.Sequential(backbone, TokenPooling(width)).append(Last(nn.Linear(1280, NUM_CLASSES)))


class Last(nn.Module):
    def __init__(self, fc):
        super().__init__()
        self.fc = fc

    def forward(self, inputs):
        return self.fc(inputs[-1])


def smallest(**options) -> DualTokenViT:
    torch.manual_seed(0)
    model = build(SMALLEST, **{'layer_scale_init': 1.0, **options})
    for name, parameter in model.named_parameters():
        if name.endswith('weight') and parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


# Sizes


@pytest.mark.parametrize(
    'arch, token_mlp, whole, stages, dense',
    [
        ('tiny', 'mix', 5_815_644, (203_334, 1_458_066, 2_608_908), 4_285_332),
        ('tiny', 'mlp', 5_995_044, (203_138, 1_499_238, 2_747_332), 4_464_732),
        ('small', 'mix', 11_385_778, (354_982, 2_559_730, 6_834_290), 9_773_642),
        ('small', 'mlp', 11_853_622, (358_402, 2_644_102, 7_214_342), 10_241_486),
    ],
)
def test_parameters(arch, token_mlp, whole, stages, dense):
    model = classifier(arch=arch, token_mlp=token_mlp)
    backbone = model[0]
    assert num_parameters(model) == whole
    assert num_parameters(backbone.stem) == {'tiny': 12_000, 'small': 20_608}[arch]
    assert backbone.global_token.numel() == {'tiny': 2_352, 'small': 3_136}[arch]
    assert tuple(num_parameters(stage) for stage in backbone.stages) == stages
    assert num_parameters(build(arch, token_mlp=token_mlp)) == dense


def test_parameters_of_blocks_and_merges():
    mix, mlp = DualTokenViT('small'), build('small', token_mlp='mlp')
    blocks = [[num_parameters(stage.blocks[0]) for stage in model.stages] for model in (mix, mlp)]
    assert blocks == [[177_491, 418_323, 1_106_067], [179_201, 432_385, 1_169_409]]
    assert [num_parameters(stage.merge) for stage in mix.stages[1:]] == [49_792, 197_888]


@pytest.mark.parametrize(
    'options, expected',
    [
        # Tables 6 to 9: the authors' counts, to the digit they give.
        (dict(token_size=0, token_mlp='mlp'), 10_799_990),
        (dict(token_size=4, token_mlp='mlp'), 11_851_510),
        (dict(token_size=(1, 8), token_mlp='mlp', global_tokens='normal'), 12_961_270),
        (dict(token_size=(1, 8), token_mlp='mlp', global_tokens='combined'), 13_357_430),
        (dict(local='window'), 10_811_822),
        (dict(stepwise=False), 11_311_794),
    ],
)
def test_parameters_of_the_ablations(options, expected):
    assert num_parameters(classifier(arch='small', **options)) == expected


@pytest.mark.parametrize(
    'arch, options, published',
    [
        ('tiny', dict(), 0.534),
        ('tiny', dict(token_mlp='mlp'), 0.540),
        ('small', dict(), 1.024),
        ('small', dict(token_mlp='mlp'), 1.042),
        # The authors' counter adds norms: about 0.011 G.
        ('small', dict(token_mlp='mlp', token_size=0), 0.985 - 0.011),
        ('small', dict(token_mlp='mlp', token_size=8), 1.099 - 0.011),
        ('small', dict(local='window'), 0.920 - 0.011),
        ('small', dict(stepwise=False), 1.020 - 0.011),
        ('small', dict(token_mlp='mlp', token_size=(1, 8), global_tokens='normal'), 0.993 - 0.011),
        (
            'small',
            dict(token_mlp='mlp', token_size=(1, 8), global_tokens='combined'),
            0.983 - 0.011,
        ),
    ],
)
def test_multiply_adds(arch, options, published):
    macs = count_complexity(classifier(arch=arch, **options)).macs
    assert macs == pytest.approx(published * 1e9, rel=0.002)


# Behaviour


@pytest.mark.parametrize(
    'size, grids',
    [
        ((224, 224), [(28, 28), (14, 14), (7, 7)]),
        ((200, 264), [(25, 33), (13, 17), (7, 9)]),
        ((203, 251), [(26, 32), (13, 16), (7, 8)]),
        ((32, 32), [(4, 4), (2, 2), (1, 1)]),
        ((32, 517), [(4, 65), (2, 33), (1, 17)]),
    ],
)
def test_any_size(size, grids):
    model = smallest()
    with torch.no_grad():
        outs = model(torch.randn(1, 3, *size))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (width, *grid) for width, grid in zip(SMALLEST['embed_dims'], grids)
    ]
    assert all(out.isfinite().all() for out in outs)
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in outs)


@pytest.mark.parametrize('grid', [(1, 1), (3, 2), (1, 9), (4, 1)])
def test_a_small_grid_is_padded_by_its_last_tokens(grid):
    pool = AveragePooling(4, 2).eval()
    x = torch.randn(2, grid[0] * grid[1], 4)
    missing = [max(0, 4 - side) for side in grid]
    padded = F.pad(tokens_to_map(x, grid), (0, missing[1], 0, missing[0]), mode='replicate')
    expected, _ = pool(map_to_tokens(padded), tuple(padded.shape[2:]))
    found, pooled_grid = pool(x, grid)
    assert pooled_grid == tuple(max(1, side // 4) for side in grid)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('size', [(224, 224), (90, 130)])
def test_number_of_global_tokens_does_not_follow_the_image(size):
    model = smallest()
    shapes = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, args, out: shapes.append(tuple(out[1].shape)))
    model(torch.randn(2, 3, *size))
    assert shapes == [(2, 49, width) for width in SMALLEST['embed_dims']]


def test_nothing_is_resized_at_224(monkeypatch):
    model, image = smallest(), torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = model(image)
        monkeypatch.setattr(torch.nn.functional, 'interpolate', None)
        for out, same in zip(model(image), expected):
            assert torch.equal(out, same)
        with pytest.raises(TypeError):
            model(torch.randn(1, 3, 256, 224))


def test_images_of_a_batch_do_not_mix():
    model = smallest()
    image, other = torch.randn(2, 3, 96, 128).unbind()
    other[:, 70:], other[:, :, 100:] = 0, 0  # padded to the larger image, as the preprocessors do
    with torch.no_grad():
        together = model(torch.stack([image, other]))
        for index, single in enumerate((image, other)):
            for out, expected in zip(together, model(single[None])):
                torch.testing.assert_close(out[index : index + 1], expected, atol=1e-4, rtol=1e-4)


def test_with_alpha_1_global_tokens_do_not_see_the_image():
    model = smallest(alpha=1.0)
    tokens = []
    for stage in model.stages:
        stage.register_forward_hook(lambda module, args, out: tokens.append(out[1]))
    model(torch.randn(1, 3, 64, 64))
    model(torch.randn(1, 3, 96, 64))
    for first, second in zip(tokens[:3], tokens[3:]):
        assert torch.equal(first, second)


def test_with_alpha_0_the_image_does_not_see_the_learned_tokens():
    model, image = smallest(alpha=0.0), torch.randn(1, 3, 64, 64)
    before = model(image)
    nn.init.normal_(model.global_token)
    assert all(torch.equal(a, b) for a, b in zip(before, model(image)))
    tokens = []
    model.stages[-1].register_forward_hook(lambda module, args, out: tokens.append(out[1]))
    model(image)
    nn.init.normal_(model.global_token)
    model(image)
    assert not torch.equal(*tokens)  # they are still carried


def test_drop_path_drops_both_streams_of_a_sample_together():
    block = smallest(drop_path_rate=0.5).stages[-1].blocks[-1].train()
    block.drop_path.drop_prob = 0.5
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)  # leaves the attention's branch alone
    x, g = torch.randn(64, 4, 32), torch.randn(64, 49, 32)
    new_x, new_g = block(x, g, (2, 2))
    dropped_x = (new_x == x).flatten(1).all(1)
    dropped_g = (new_g == g).flatten(1).all(1)
    assert torch.equal(dropped_x, dropped_g)
    assert 0 < dropped_x.sum() < 64


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(token_mlp='mlp'),
        dict(token_mlp=None),
        dict(token_size=0),
        dict(token_size=(3, 5)),
        dict(local='window'),
        dict(stepwise=False),
        dict(global_tokens='normal'),
        dict(global_tokens='combined', token_size=(1, 8)),
    ],
    ids=str,
)
def test_every_parameter_gets_a_gradient(options):
    model = smallest(**options).train()
    sum(out.square().sum() for out in model(torch.randn(2, 3, 75, 101))).backward()
    zero = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not zero


@pytest.mark.parametrize('with_cp', ['mlp', 'all', True])
def test_recomputing_changes_no_gradient(with_cp):
    image = torch.randn(2, 3, 64, 64)
    grads = []
    for mode in (False, with_cp):
        model = smallest(with_cp=mode, drop_path_rate=0.2).train()
        torch.manual_seed(1)
        sum(out.square().sum() for out in model(image)).backward()
        grads.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*grads):
        torch.testing.assert_close(recomputed, plain)


def test_tokens_for_a_classifier():
    model = smallest(out_type='raw')
    (tokens,) = model(torch.randn(2, 3, 96, 64))
    assert tokens.shape == (2, 49 + 3 * 2, 32)
    (tokens,) = smallest(out_type='raw', token_size=0)(torch.randn(2, 3, 96, 64))
    assert tokens.shape == (2, 3 * 2, 32)


def test_folded_batch_norm_equals_batch_norm():
    conv = smallest().stem.convs[1]
    bn = conv.bn
    for tensor in (bn.running_mean, bn.weight.data, bn.bias.data):
        tensor.normal_()
    bn.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 4, 9, 11)
    expected = torch.nn.functional.gelu(bn(conv.conv(x)))
    torch.testing.assert_close(conv(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), expected)


def test_norm_eval_freezes_statistics_but_trains_the_affine_part():
    model = smallest(norm_eval=True).train()
    before = model.stem.convs[0].bn.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))[0].sum().backward()
    assert torch.equal(model.stem.convs[0].bn.running_mean, before)
    assert model.stem.convs[0].bn.weight.grad.any()


def test_frozen_stages():
    model = smallest(frozen_stages=1).train()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = ('stem.', 'global_token', 'stages.0.', 'norm0.')
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith(expected)}
    assert not model.stem.convs[0].bn.training


@pytest.mark.parametrize(
    'name, depth',
    [
        ('stem.proj.weight', 0),
        ('global_token', 0),
        ('stages.0.blocks.1.attn.q.weight', 2),
        ('norm0.weight', 2),
        ('stages.1.merge.residual.weight', 3),
        ('stages.1.blocks.0.norm1.weight', 3),
        ('stages.2.blocks.1.norm1.weight', 6),
        ('norm2.bias', 6),
    ],
)
def test_layer_depth(name, depth):
    model = smallest()
    assert name in dict(model.named_parameters())
    assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == (depth, 8)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (7, 8)


def test_stages_before_the_last_output_run_alone():
    outs = smallest(out_indices=(0,))(torch.randn(1, 3, 64, 64))
    assert [tuple(out.shape) for out in outs] == [(1, 8, 8, 8)]


def test_half_precision():
    model, image = smallest(), torch.randn(1, 3, 75, 101)
    with torch.no_grad():
        expected = model(image)
        with torch.autocast('cpu', torch.bfloat16):
            outs = model(image)
    for out, full in zip(outs, expected):
        assert (out.float() - full).norm() < 0.1 * full.norm()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='huge'), "arch='huge' is not one of tiny, small"),
        (dict(local='pool'), "local='pool' must be one of"),
        (dict(token_mlp='mixed'), "token_mlp='mixed' must be one of"),
        (dict(global_tokens='learned'), "global_tokens='learned' must be one of"),
        (dict(global_tokens='normal', token_size=0), 'leaves no global tokens'),
        (dict(out_type='cls_token'), "out_type='cls_token' must be one of"),
        (dict(out_type='raw', out_indices=(0, 2)), 'omit out_indices'),
        (dict(with_cp='tail'), "with_cp='tail' must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
