from __future__ import annotations

import pytest
import torch
from mmengine.logging import MessageHub

from mmeffvit.denoising import RestorationPreprocessor, RestorationSample, Restorer
from mmeffvit.denoising.networks import SkipUformer, Uformer
from mmeffvit.denoising.runtime.restorer import MixUp

TINY = dict(embed_dims=4, depths=(1,) * 9)


def _samples(images) -> list[RestorationSample]:
    samples = []
    for image in images:
        sample = RestorationSample()
        sample.gt_img = image
        samples.append(sample)
    return samples


@pytest.mark.parametrize('kind', ['Uformer', 'SkipUformer'])
def test_loss_and_prediction(kind):
    torch.manual_seed(0)
    model = Restorer(dict(type=kind, arch=TINY))
    clean = torch.rand(2, 3, 128, 128)
    losses = model(clean + 0.1, _samples(clean), mode='loss')
    losses['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    noisy = [torch.rand(3, 50, 60), torch.rand(3, 130, 20)]
    predictions = model(noisy, _samples(noisy), mode='predict')
    assert [p.pred_img.shape for p in predictions] == [image.shape for image in noisy]
    assert all(p.pred_img.min() >= 0 and p.pred_img.max() <= 1 for p in predictions)
    assert not predictions[0].pred_img.requires_grad
    with pytest.raises(ValueError, match="mode='train'"):
        model(clean, mode='train')


def test_preprocessor_stacks_what_fits():
    preprocessor = RestorationPreprocessor()
    same, mixed = [torch.rand(3, 8, 8)] * 2, [torch.rand(3, 8, 8), torch.rand(3, 8, 9)]
    assert preprocessor(dict(inputs=same, data_samples=None))['inputs'].shape == (2, 3, 8, 8)
    assert isinstance(preprocessor(dict(inputs=mixed, data_samples=None))['inputs'], list)
    with pytest.raises(ValueError, match='Cannot batch images of different sizes'):
        preprocessor(dict(inputs=mixed, data_samples=None), training=True)


def test_mixup_blends_noisy_and_clean_alike_from_its_epoch_on():
    torch.manual_seed(0)
    clean = torch.rand(8, 3, 4, 4)
    noisy = clean + 0.25
    hub = MessageHub.get_current_instance()
    mixup = MixUp(alpha=1.2, begin_epoch=5)
    hub.update_info('epoch', 4)
    assert mixup(noisy, clean)[0] is noisy
    hub.update_info('epoch', 5)
    mixed_noisy, mixed_clean = mixup(noisy, clean)
    hub.update_info('epoch', 0)
    torch.testing.assert_close(mixed_noisy - mixed_clean, torch.full_like(clean, 0.25))
    assert not torch.equal(mixed_clean, clean)


@pytest.mark.parametrize('model', [Uformer, SkipUformer])
@pytest.mark.parametrize('size', [(1, 1), (37, 200), (128, 256)])
def test_any_image_size(model, size):
    torch.manual_seed(0)
    network = model(TINY).eval()
    with torch.no_grad():
        out = network(torch.rand(1, 3, *size))
    assert out.shape == (1, 3, *size) and out.isfinite().all()


def test_padding_is_the_reflected_image():
    torch.manual_seed(0)
    network = Uformer(TINY).eval()
    image = torch.rand(1, 3, 128, 128)
    image[..., 100:, :] = image[..., 71:99, :].flip(-2)
    with torch.no_grad():
        whole, cropped = network(image), network(image[..., :100, :])
    torch.testing.assert_close(whole[..., :100, :], cropped)


def test_published_size_and_cost():
    from mmeffvit.analysis import count_complexity

    published = {'t': (5291853, 11.27e9), 's': (20751197, 40.99e9), 'b': (50880946, 86.57e9)}
    # Multiply-adds of SkipAt by the same count; the paper counts 8, 11 and 11 % less than Uformer.
    skipping = {'t': (4.979e6, 9.65e9), 's': (19.616e6, 36.15e9), 'b': (46.590e6, 76.76e9)}
    for arch, (params, macs) in published.items():
        with torch.device('meta'):
            plain, reusing = Uformer(arch), SkipUformer(arch)
        cost = count_complexity(plain, (1, 3, 256, 256))
        assert cost.params == params
        assert cost.macs == pytest.approx(macs, rel=1e-3)
        cost = count_complexity(reusing, (1, 3, 256, 256))
        assert (cost.params, cost.macs) == pytest.approx(skipping[arch], rel=1e-3)


def test_skipping_decoder_does_not_attend():
    network = SkipUformer(TINY, attention=dict(mode='encoder'))
    assert not [name for name, _ in network.decoder.named_parameters() if 'qkv' in name]
    assert not [name for name, _ in network.decoder.named_parameters() if 'norm1' in name]


@pytest.mark.parametrize('reuse', ['concat', 'encoder'])
def test_sources_reach_their_partners(reuse):
    """With the encoder's attention outputs set to zero in one block, only its pair changes."""
    torch.manual_seed(0)
    arch = dict(embed_dims=4, depths=(2, 1, 1, 1, 1, 1, 1, 1, 2))
    for pairing, partner in (('same', 1), ('reverse', 0)):
        network = SkipUformer(arch, attention=dict(mode=reuse), pairing=pairing).eval()
        seen = {}
        for index, block in enumerate(network.decoder[-1]):
            block.attn.register_forward_pre_hook(
                lambda _, args, index=index, seen=seen: seen.update({index: args[2]})
            )
        network.encoder[0][1].attn.register_forward_hook(lambda *args: torch.zeros_like(args[2]))
        with torch.no_grad():
            network(torch.rand(1, 3, 128, 128))
        assert not seen[partner].any()
        assert seen[1 - partner].any()


def test_bottleneck_shift_is_an_option_that_matters():
    torch.manual_seed(0)
    arch = dict(embed_dims=4, depths=(1, 1, 1, 1, 2, 1, 1, 1, 1))
    plain, shifted = Uformer(arch).eval(), Uformer(arch, bottleneck_shift=True).eval()
    torch.nn.init.normal_(plain.bottleneck[1].attn.qkv.weight)
    shifted.load_state_dict(plain.state_dict())
    small, large = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        assert torch.equal(plain(small), shifted(small))
        assert not torch.allclose(plain(large), shifted(large))


@pytest.mark.parametrize(
    ('model', 'options', 'message'),
    [
        (Uformer, dict(arch='l'), "arch='l'"),
        (Uformer, dict(arch=dict(embed_dims=4, depths=(1, 1))), 'stages'),
        (Uformer, dict(pad_mode='replicate'), 'pad_mode='),
        (SkipUformer, dict(attention=dict(mode='decoder')), 'mode='),
        (SkipUformer, dict(pairing='random'), 'pairing='),
        (
            SkipUformer,
            dict(arch=dict(embed_dims=4, depths=(1, 2, 1, 1, 1, 1, 1, 1, 1))),
            'must mirror',
        ),
    ],
)
def test_bad_options_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        model(**options)


def test_tiles_of_a_transformer_agree_away_from_tile_borders():
    """Windows line up with the whole image's, so tiles differ only by what they do not see."""
    torch.manual_seed(0)
    model = Restorer(
        dict(type='SkipUformer', arch=TINY), test_cfg=dict(tile=256, overlap=128)
    ).eval()
    noisy = torch.rand(1, 3, 384, 300)
    tiled = model.denoise(noisy)
    with torch.no_grad():
        whole = model.backbone(noisy).clamp(0, 1)
    residual = (whole - noisy).square().mean().sqrt()
    assert (tiled - whole).square().mean().sqrt() < 0.05 * residual
