import pytest
import torch
from torch import nn

from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import LookupViT, VisionTransformer
from mmeffvit.ops import use_backend

TINY = dict(embed_dims=32, depth=3, num_heads=2)
CLASSES = 1000

#: Backbone without and with two 1000-class heads.
PARAMS = {
    'tiny': (8_212_032, 8_598_032),
    'small': (32_349_312, 33_119_312),
    'base': (128_399_616, 129_937_616),
    'large': (454_652_928, 456_702_928),
}
#: GMAC with two heads, by arch and image size, for 3x3, 5x5, 7x7, 10x10 and 14x14.
SIZES = (3, 5, 7, 10, 14)
GMACS = {
    ('small', 224): (1.36, 1.84, 2.55, 4.12, 7.19),
    ('small', 384): (3.54, 4.10, 4.94, 6.77, 10.35),
    ('base', 224): (5.28, 7.08, 9.79, 15.62, 26.86),
    ('base', 384): (13.67, 15.64, 18.60, 24.97, 37.21),
    ('base', 512): (23.56, 25.72, 28.98, 35.98, 49.41),
    ('large', 224): (18.49, 24.78, 34.28, 54.64, 93.66),
    ('large', 384): (47.73, 54.47, 64.64, 86.43, 128.14),
    ('large', 512): (82.20, 89.47, 100.43, 123.91, 168.79),
}


def _on_meta(*args, **kwargs):
    with torch.device('meta'):
        return LookupViT(*args, **kwargs)


@pytest.mark.parametrize('arch', PARAMS)
def test_parameters(arch):
    model = _on_meta(arch, out_type='pooled')
    heads = 2 * (model.position.weight.shape[2] + 1) * CLASSES
    assert (num_parameters(model), num_parameters(model) + heads) == PARAMS[arch]


def test_parameters_of_the_options():
    heads = 2 * 769 * CLASSES
    for options, wanted in (
        (dict(attention=dict(l2p_out_proj=False)), 122_850_512),
        (dict(attention=dict(p2l_out_proj=True)), 137_024_720),
        (dict(share_mhbc=True), 90_886_736),
    ):
        assert num_parameters(_on_meta('base', out_type='pooled', **options)) + heads == wanted


@pytest.mark.parametrize(
    'arch, side',
    [
        pytest.param(*key, marks=() if key == ('base', 384) else pytest.mark.slow, id=str(key))
        for key in GMACS
    ],
)
def test_multiply_adds(arch, side):
    model = _on_meta(arch, out_type='pooled', img_size=side)
    heads = 2 * model.position.weight.shape[2] * CLASSES
    for size, wanted in zip(SIZES, GMACS[arch, side]):
        model.set_compressed_size((size, size))
        macs = count_complexity(model, (1, 3, side, side)).macs + heads
        # The published tables have two digits after the point.
        assert abs(macs / 1e9 - wanted) < max(0.005 * wanted, 0.005)


def test_more_than_three_times_fewer_multiply_adds_at_384():
    ours = count_complexity(_on_meta('base', out_type='pooled'), (1, 3, 384, 384)).macs
    with torch.device('meta'):
        vit = VisionTransformer('base', with_cls_token=False, out_type='avg_featmap')
    assert count_complexity(vit, (1, 3, 384, 384)).macs / ours > 3


def test_multiply_adds_are_affine_in_the_lookup_tokens():
    model = _on_meta('base', compressed_size=(10, 10))
    macs = [count_complexity(model, (1, 3, side, 512)).macs for side in (512, 1024, 1536)]
    # But for the resize to the compressed grid, which costs next to nothing.
    assert macs[2] - macs[1] == pytest.approx(macs[1] - macs[0], rel=1e-3)
    assert macs[0] / 1e9 == pytest.approx(36.0, rel=0.005)
    square = count_complexity(model, (1, 3, 1024, 1024)).macs
    assert square / 1e9 == pytest.approx(111.5, rel=0.005)


def test_one_state_runs_every_grid():
    model = LookupViT(TINY, out_type='tokens').eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(2, 3, 64, 96)
    for size in ((1, 1), (2, 3), (3, 2), (4, 4), (7, 5)):
        other = LookupViT(TINY, compressed_size=size, out_type='tokens').eval()
        other.load_state_dict(state)
        model.set_compressed_size(size)
        with torch.no_grad():
            ((compressed, lookup),) = model(x)
            ((again, _),) = other(x)
        assert compressed.shape == (2, size[0] * size[1], 32) and lookup.shape == (2, 24, 32)
        assert torch.equal(compressed, again)


def test_no_block_sees_an_image_but_through_its_tokens():
    """Compressed tokens are the resized lookup tokens, position included."""
    model = LookupViT(TINY, compressed_size=(2, 2), out_type='tokens', final_norm=False)
    model.blocks = nn.ModuleList()
    model.out_indices = (0,)
    seen = {}

    class Spy(nn.Module):
        def forward(self, compressed, lookup, grids):
            assert grids == ((2, 2), (4, 4))
            seen['sets'] = compressed, lookup
            return compressed, lookup

    model.blocks.append(Spy())
    model.norm_lookup['0'] = model.norm_compressed['0'] = nn.Identity()
    model(torch.randn(1, 3, 64, 64))
    compressed, lookup = seen['sets']
    means = nn.functional.interpolate(
        lookup.view(1, 4, 4, 32).permute(0, 3, 1, 2), size=(2, 2), mode='bilinear', antialias=True
    )
    assert (means.permute(0, 2, 3, 1).flatten(1, 2) - compressed).abs().max() < 1e-6


@pytest.mark.parametrize('size', [(64, 64), (500, 333), (16, 16), (33, 80)])
@pytest.mark.parametrize('out_tokens', ['lookup', 'add', 'concat'])
def test_maps_of_any_size(size, out_tokens):
    model = LookupViT(TINY, compressed_ratio=4, out_tokens=out_tokens, out_indices=(0, 2)).eval()
    with torch.no_grad():
        outs = model(torch.randn(1, 3, *size))
    grid = tuple(-(-side // 16) for side in size)
    assert [out.shape for out in outs] == [(1, 32, *grid)] * 2
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in outs)


def test_ratio_keeps_the_aspect_and_size_wins():
    model = LookupViT(TINY, compressed_ratio=4)
    assert model.compressed_grid((50, 84)) == (12, 21)
    assert model.compressed_grid((2, 9)) == (1, 2)
    assert LookupViT(TINY, [3, 4], 4).compressed_grid((50, 84)) == (3, 4)
    assert LookupViT(TINY).compressed_grid((14, 14)) == (5, 5)
    assert LookupViT(TINY, 3).compressed_grid((14, 14)) == (3, 3)


@pytest.mark.parametrize('out_tokens', ['lookup', 'add', 'concat'])
def test_every_parameter_gets_a_gradient(out_tokens):
    model = LookupViT(TINY, compressed_size=(2, 2), out_tokens=out_tokens, layer_scale=0.1)
    model(torch.randn(2, 3, 64, 48))[0].square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_pooled_reaches_both_norms():
    model = LookupViT(TINY, compressed_size=(2, 2), out_type='pooled')
    ((compressed, lookup),) = model(torch.randn(2, 3, 64, 64))
    assert compressed.shape == lookup.shape == (2, 32)
    (compressed.square().sum() + lookup.square().sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_video_in_the_same_code():
    options = dict(patch_size=(2, 16, 16), img_size=(8, 64, 64), compressed_size=(2, 2, 3))
    model = LookupViT(TINY, **options).eval()
    assert model.position.weight.shape[1] == 4 * 4 * 4
    with torch.no_grad():
        (out,) = model(torch.randn(1, 3, 7, 70, 48))
    assert out.shape == (1, 32, 4, 5, 3)
    tokens = LookupViT(TINY, out_type='tokens', **options)
    ((compressed, lookup),) = tokens(torch.randn(1, 3, 8, 64, 64))
    assert compressed.shape == (1, 12, 32) and lookup.shape == (1, 64, 32)


def test_a_still_clip_is_its_image():
    """With one frame per tubelet and one tubelet, a video model is the image model."""
    image = LookupViT(TINY, compressed_size=(2, 2), img_size=64).eval()
    video = LookupViT(
        TINY, compressed_size=(1, 2, 2), img_size=(1, 64, 64), patch_size=(1, 16, 16)
    ).eval()
    state = image.state_dict()
    state['patch_embed.proj.weight'] = state['patch_embed.proj.weight'].unsqueeze(2)
    video.load_state_dict(state)
    for side in (64, 80):  # also with a resized position table
        x = torch.randn(1, 3, side, side)
        with torch.no_grad():
            (still,), (clip,) = image(x), video(x.unsqueeze(2))
        assert (clip.squeeze(2) - still).abs().max() < 1e-5


def test_plain_ops_give_the_same_maps():
    model = LookupViT(dict(embed_dims=128, depth=3, num_heads=2), (2, 2)).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        (fast,) = model(x)
        with use_backend('reference'):
            (plain,) = model(x)
    assert (fast - plain).abs().max() < 1e-5


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_is_finite(dtype):
    model = LookupViT(TINY, out_type='pooled')
    with torch.autocast('cpu', dtype):
        ((compressed, lookup),) = model(torch.randn(1, 3, 64, 64))
    assert compressed.isfinite().all() and lookup.isfinite().all()


def test_sharing_is_over_all_blocks_but_the_refinement():
    model = LookupViT(TINY, share_mhbc=True)
    first, last = model.blocks[0], model.blocks[-1]
    assert last.gather is first.gather and last.infuse is first.infuse and last.mlp is first.mlp
    assert last.refine is not first.refine


def test_frozen_stages():
    model = LookupViT(TINY, frozen_stages=1).train()
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith(('patch_embed', 'position', 'blocks.0')) for name in trainable)
    assert any(name.startswith('blocks.1') for name in trainable)
    assert not model.blocks[0].training and model.blocks[1].training


def test_layer_depths():
    model = LookupViT(TINY, out_tokens='add')
    depths = {model.get_layer_depth(f'backbone.{n}', 'backbone.') for n in model.state_dict()}
    assert depths == {(depth, 5) for depth in range(5)}
    assert model.get_layer_depth('backbone.position.weight', 'backbone.') == (0, 5)
    assert model.get_layer_depth('backbone.blocks.2.mlp.fc1.weight', 'backbone.') == (3, 5)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (4, 5)


def test_export_keeps_nothing_behind():
    model = LookupViT(TINY, compressed_size=(2, 2), img_size=64).eval()
    x = torch.randn(1, 3, 80, 64)
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        expected = model(x)[0]  # the matrices made while tracing must not be reused
        assert (exported(x)[0] - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    'options, name',
    [
        (dict(compressed_size=(2, 2, 2)), 'compressed_size'),
        (dict(compressed_size=(0, 2)), 'compressed_size'),
        (dict(compressed_ratio=0), 'compressed_ratio'),
        (dict(out_type='map'), 'out_type'),
        (dict(out_tokens='compressed'), 'out_tokens'),
        (dict(arch='huge'), 'arch'),
        (dict(attention=dict(norm_position='none')), 'norm_position'),
        (dict(attention=dict(reuse_norm='column')), 'reuse_norm'),
        (dict(with_cp='tail'), 'with_cp'),
    ],
)
def test_bad_options(options, name):
    with pytest.raises(ValueError, match=name):
        LookupViT(**{'arch': TINY, **options})


def test_options_that_change_results_only():
    """Dropout acts in training alone; the MLP of the lookup tokens has the width asked for."""
    arch = dict(TINY, lookup_mlp_div=4)
    model = LookupViT(arch, (2, 2), img_size=64, attention=dict(attn_drop=0.5))
    assert model.blocks[0].mlp.fc1.out_features == TINY['embed_dims'] // 4
    x = torch.randn(1, 3, 64, 64)
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


def test_the_position_table_is_resized_as_asked():
    bilinear = LookupViT(TINY, (2, 2), img_size=64, interpolate_mode='bilinear').eval()
    bicubic = LookupViT(TINY, (2, 2), img_size=64).eval()
    bicubic.load_state_dict(bilinear.state_dict())
    same, other = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 96, 96)
    assert torch.equal(bilinear(same)[0], bicubic(same)[0])
    assert not torch.allclose(bilinear(other)[0], bicubic(other)[0], atol=1e-4)
