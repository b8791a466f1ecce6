from __future__ import annotations

import pytest
import torch

from helpers.pairs import tiny_matcher
from mmeffvit import get_model
from mmeffvit.matching import FeatureMatcher, PairPreprocessor, PairSample

VARIANTS = ('tree', 'linear', 'full', 'transport')


def shifted_pair(size0=(96, 128), size1=(96, 128), batch=2, shift=16):
    torch.manual_seed(1)
    canvas = torch.rand(batch, 1, 40, 40).repeat_interleave(8, 2).repeat_interleave(8, 3)
    image0 = canvas[:, :, : size0[0], : size0[1]]
    image1 = canvas[:, :, shift : shift + size1[0], shift : shift + size1[1]]
    return image0.contiguous(), image1.contiguous()


def samples_of(batch: int, shift: int = 16) -> list[PairSample]:
    samples = [PairSample() for _ in range(batch)]
    for sample in samples:
        sample.homography = torch.tensor([[1.0, 0, -shift], [0, 1, -shift], [0, 0, 1]])
    return samples


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize(
    'sizes', [((96, 128), (96, 128)), ((121, 203), (97, 160)), ((65, 64),) * 2]
)
def test_any_two_sizes_train(variant, sizes):
    model = tiny_matcher(variant).train()
    image0, image1 = shifted_pair(*sizes)
    losses = model(dict(image0=image0, image1=image1), samples_of(2), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('variant', VARIANTS)
def test_any_two_sizes_match(variant):
    model = tiny_matcher(variant, threshold=0.0, border=1).eval()
    image0, image1 = shifted_pair((121, 203), (97, 160), batch=1)
    (out,) = model(dict(image0=image0, image1=image1), mode='predict')
    assert len(out.points0) == len(out.points1) == len(out.confidence) > 0
    x, y = out.points0.unbind(1)
    assert x.min() >= 8 and x.max() <= 8 * 24 and y.max() <= 8 * 14
    assert out.points1.isfinite().all()


def test_a_batch_equals_its_pairs():
    model = tiny_matcher(threshold=0.0).eval()
    image0, image1 = shifted_pair(batch=3)
    together = model(dict(image0=image0, image1=image1), mode='predict')
    for index, expected in enumerate(together):
        one = slice(index, index + 1)
        (found,) = model(dict(image0=image0[one], image1=image1[one]), mode='predict')
        torch.testing.assert_close(found.points1, expected.points1, atol=1e-4, rtol=1e-4)


def test_swapped_images_give_the_transposed_confidence():
    """Both images attend to each other's old tokens in QuadTree's blocks, not in LoFTR's."""
    image0, image1 = shifted_pair((96, 128), (64, 96))
    for variant, equal in (('tree', True), ('linear', False)):
        model = tiny_matcher(variant).eval()
        with torch.no_grad():
            there = model.confidence(model.extract(image0, image1))
            back = model.confidence(model.extract(image1, image0)).transpose(1, 2)
        assert torch.allclose(there, back, atol=1e-5, rtol=1e-3) == equal


@pytest.mark.parametrize('variant', VARIANTS)
def test_what_a_mask_hides_does_not_matter(variant):
    model = tiny_matcher(variant, threshold=0.0, border=0).eval()
    x, y = torch.rand(2, 2, 96, 32)
    mask = torch.ones(2, 8, 12, dtype=torch.bool)
    mask[1, :, 8:] = mask[1, 6:] = False
    flat = mask.flatten(1)
    noise = 50 * torch.randn_like(x)
    outs = []
    with torch.no_grad():
        for tokens in (x, torch.where(flat.unsqueeze(-1), x, noise)):
            tokens = tokens * flat.unsqueeze(-1)
            first, second = model.transformer(tokens, y, (8, 12), (8, 12), flat, None)
            outs.append((first[flat], second))
            confidence = model.coarse.confidence(first, second, flat, None)
            if variant != 'transport':
                assert confidence[1][~flat[1]].max() < 1e-6
    for a, b in zip(*outs):
        torch.testing.assert_close(a, b)


def test_matches_stay_inside_of_masks():
    model = tiny_matcher(threshold=0.0, border=1).eval()
    image0, image1 = shifted_pair(batch=8)
    mask = torch.zeros(8, 12, 16, dtype=torch.bool)
    mask[:, 2:9, 3:11] = True
    found = model(dict(image0=image0, image1=image1, mask0=mask), mode='predict')
    assert sum(len(sample.points0) for sample in found)
    for sample in found:
        cells = (sample.points0 / 8).long()
        assert (cells >= torch.tensor([3, 2])).all() and (cells < torch.tensor([10, 8])).all()


def test_the_preprocessor_pads_and_masks():
    images0 = [torch.ones(1, 60, 80), torch.ones(1, 40, 88)]
    images1 = [torch.ones(1, 33, 47)] * 2
    out = PairPreprocessor()(dict(inputs=dict(image0=images0, image1=images1)))['inputs']
    assert out['image0'].shape == (2, 1, 64, 88) and out['image1'].shape == (2, 1, 40, 48)
    assert out['mask1'] is None
    assert out['mask0'].sum((1, 2)).tolist() == [8 * 10, 5 * 11]
    region = torch.zeros(33, 47, dtype=torch.bool)
    region[8:24, 16:] = True
    inputs = dict(image0=images1, image1=images1, mask1=[region, region])
    mask = PairPreprocessor()(dict(inputs=inputs))['inputs']['mask1']
    assert mask[0].nonzero().amin(0).tolist() == [1, 2] and mask[0].sum() == 2 * 4


def test_scales_give_original_pixels():
    model = tiny_matcher(threshold=0.0).eval()
    image0, image1 = shifted_pair(batch=1)
    inputs = dict(image0=image0, image1=image1)
    (plain,) = model(inputs, mode='predict')
    scaled = PairSample(metainfo=dict(scale0=(2.0, 3.0), scale1=(0.5, 0.25)))
    (scaled,) = model(inputs, [scaled], mode='predict')
    torch.testing.assert_close(scaled.points0, plain.points0 * torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(scaled.points1, plain.points1 * torch.tensor([0.5, 0.25]))


def test_the_most_confident_matches():
    model = tiny_matcher(threshold=0.0, border=0).eval()
    image0, image1 = shifted_pair(batch=1)
    inputs = dict(image0=image0, image1=image1)
    (every,) = model(inputs, mode='predict')
    model.test_cfg['max_matches'] = 3
    (best,) = model(inputs, mode='predict')
    assert torch.equal(best.confidence, every.confidence.topk(3).values)


@pytest.mark.parametrize('variant', VARIANTS)
def test_autocast_is_close_and_trains(variant):
    model = tiny_matcher(variant).eval()
    image0, image1 = shifted_pair()
    inputs = dict(image0=image0, image1=image1)
    with torch.no_grad():
        exact = model.confidence(model.extract(image0, image1))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features = model.extract(image0, image1)
        close = model.confidence(features)
        losses = model.train()(inputs, samples_of(2), mode='loss')
    assert close.dtype == torch.float32
    assert (exact - close).abs().max() < 0.1
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite() and loss.dtype == torch.float32
    loss.backward()


def test_no_matches_are_empty_and_no_error():
    model = tiny_matcher(threshold=1.0).eval()
    image0, image1 = shifted_pair(batch=1)
    (out,) = model(dict(image0=image0, image1=image1), mode='predict')
    assert out.points0.shape == out.points1.shape == (0, 2)


@pytest.mark.parametrize(
    'name, parameters',
    [
        ('quadtree_matcher_indoor', 12_704_264),
        ('quadtree_matcher_outdoor', 12_704_264),
        ('quadtree_matcher_lite', 3_205_248),
        ('loftr_indoor', 11_561_456),
        ('loftr_outdoor', 11_561_456),
    ],
)
def test_published_sizes(name, parameters):
    with torch.device('meta'):
        model = get_model(name)
    assert isinstance(model, FeatureMatcher)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_an_unknown_mode_is_refused():
    image0, image1 = shifted_pair(batch=1)
    with pytest.raises(ValueError, match="mode='train' must be"):
        tiny_matcher()(dict(image0=image0, image1=image1), mode='train')
