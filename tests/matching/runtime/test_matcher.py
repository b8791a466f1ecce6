from __future__ import annotations

import numpy as np
import pytest

from helpers.pairs import tiny_matcher
from mmeffvit.matching import HomographyPairs, Matcher


@pytest.fixture(scope='module')
def pair():
    return HomographyPairs(1, (96, 128), (80, 120), pipeline=[]).get_data_info(0)


def matcher(**options) -> Matcher:
    return Matcher(tiny_matcher(threshold=0.0, border=0), **options)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float64])
def test_any_kind_of_array(pair, dtype):
    peak = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    grey, other = ((peak * pair[name]).astype(dtype) for name in ('image0', 'image1'))
    found = matcher()(grey, np.repeat(other[..., None], 3, 2))
    assert len(found.points0) and found.points0.shape == found.points1.shape
    assert (found.points0 < [128, 96]).all() and found.confidence.dtype == np.float32
    assert len(matcher()(grey, other, max_matches=2).points0) == 2


def test_large_images_are_shrunk_and_points_scaled_back(pair):
    large = np.kron(pair['image0'], np.ones((4, 4), np.float32))
    shrunk = matcher(long_side=128)
    found, plain = shrunk(large, pair['image1']), shrunk(pair['image0'], pair['image1'])
    np.testing.assert_allclose(found.points0, 4 * plain.points0, atol=1e-3)
    np.testing.assert_allclose(found.points1, plain.points1, atol=1e-2)


def test_regions_of_interest(pair):
    mask = np.zeros((96, 128), bool)
    mask[16:64, 32:96] = True
    found = matcher()(pair['image0'], pair['image1'], mask0=mask)
    x, y = found.points0.T
    assert len(x) and mask[y.astype(int), x.astype(int)].all()
    with pytest.raises(ValueError, match='does not fit an image'):
        matcher()(pair['image0'], pair['image1'], mask1=mask)


def test_a_wrong_side():
    with pytest.raises(ValueError, match='long_side=0'):
        matcher(long_side=0)
