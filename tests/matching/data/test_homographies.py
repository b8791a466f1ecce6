from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mmeffvit.matching import HomographyPairs, PackPair
from mmeffvit.matching.data.homographies import cut_pair, frame_corners
from mmeffvit.matching.data.transforms import to_grey
from mmeffvit.matching.geometry import warp_by_homography

SIZES = dict(size=(64, 96), size1=(80, 56))


def test_the_same_seed_gives_the_same_pair():
    first, again, other = (HomographyPairs(4, **SIZES, seed=s, pipeline=[]) for s in (3, 3, 4))
    a, b, c = (dataset.get_data_info(2) for dataset in (first, again, other))
    for key in ('image0', 'image1', 'homography'):
        assert np.array_equal(a[key], b[key])
        assert not np.array_equal(a[key], c[key])
    assert a['image0'].shape == (64, 96) and a['image1'].shape == (80, 56)
    assert a['image0'].min() >= 0 and a['image1'].max() <= 1


def test_the_homography_maps_what_was_drawn():
    """A smooth canvas without changes of light has the same value at both ends."""
    y, x = np.mgrid[:200, :200].astype(np.float32)
    canvas = 0.5 + 0.2 * np.sin(x / 9) * np.cos(y / 11)

    class Still:
        def uniform(self, low, high, size=None):
            return np.ones(size) if size else 0.0 if low <= 0 <= high else 1.0

        def random(self):
            return 1.0

        def standard_normal(self, shape, dtype=None):
            return np.zeros(shape, np.float32)

    corners = frame_corners((64, 96)) * 0.9 + 45
    pair = cut_pair(canvas, (64, 96), (64, 96), corners, Still())
    points = torch.tensor([[20.0, 20.0], [60.0, 40.0], [48.0, 30.0]])
    there = warp_by_homography(points, torch.from_numpy(pair['homography']))
    for (x0, y0), (x1, y1) in zip(points.tolist(), there.tolist()):
        patches = [
            cv2.getRectSubPix(pair[image], (1, 1), place)
            for image, place in (('image0', (x0, y0)), ('image1', (x1, y1)))
        ]
        assert abs(patches[0].item() - patches[1].item()) < 0.01


def test_pairs_from_a_folder(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    dataset = HomographyPairs(
        3, **SIZES, data_root=str(tmp_path), data_prefix=dict(img=''), pipeline=[PackPair()]
    )
    packed = dataset[1]
    assert packed['inputs']['image1'].shape == (1, 80, 56)
    assert packed['data_samples'].homography.shape == (3, 3)
    (tmp_path / 'a.png').unlink()
    with pytest.raises(ValueError, match='holds no image'):
        HomographyPairs(1, data_root=str(tmp_path), data_prefix=dict(img=''))


@pytest.mark.parametrize('shape', [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.float64])
def test_grey(shape, dtype):
    peak = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    grey = to_grey(np.full(shape, peak, dtype))
    assert grey.shape == (4, 5) and grey.dtype == np.float32
    assert grey[0, 0] == pytest.approx(1, abs=1e-6)


def test_what_is_no_image():
    with pytest.raises(ValueError, match='is not uint8, uint16 or float'):
        to_grey(np.zeros((4, 5), np.int64))
    with pytest.raises(ValueError, match=r'is no \(H, W\)'):
        to_grey(np.zeros((4, 5, 2), np.uint8))
