"""Generated scenes, and readers, each on made data of the published layout."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from helpers.goldens import require_golden
from mmeffvit.stereo import (
    FlyingThings3D,
    KittiStereo,
    LayeredStereo,
    LoadStereo,
    MiddleburyStereo,
    PackStereo,
    RandomStereoCrop,
    RandomSwapMirror,
    StereoPhotometric,
    occlusion_of,
    read_disparity,
    write_disparity,
)


@pytest.fixture(scope='module')
def scene():
    return LayeredStereo(3, (64, 96), seed=5, pipeline=[]).get_data_info(1)


def warped(scene) -> np.ndarray:
    """Difference of the left image and the right one, fetched by the disparity."""
    y, x = np.mgrid[: scene['left'].shape[0], : scene['left'].shape[1]].astype(np.float32)
    right = scene['right'].astype(np.float32)
    there = cv2.remap(right, x - scene['disparity'], y, cv2.INTER_LINEAR)
    return np.abs(there - scene['left']).mean(-1) / 255


def test_disparity_and_occlusion_are_exact(scene):
    error, hidden = warped(scene), scene['occlusion']
    assert 0.02 < hidden.mean() < 0.3
    assert error[~hidden].mean() < 0.08 < 0.2 < error[hidden].mean()
    again = LayeredStereo(3, (64, 96), seed=5, pipeline=[]).get_data_info(1)
    assert all(np.array_equal(scene[key], again[key]) for key in ('left', 'right', 'occlusion'))


def test_mirrored_and_swapped_scenes_are_scenes(scene):
    swapped = RandomSwapMirror(1.0)(scene)
    error, hidden = warped(swapped), swapped['occlusion']
    assert error[~hidden].mean() < 0.08 < 0.2 < error[hidden].mean()
    assert RandomSwapMirror(0.0)(scene) is scene


def test_a_crop_hides_what_it_cuts_off(scene):
    np.random.seed(0)
    cut = RandomStereoCrop((40, 50))(scene)
    assert cut['left'].shape == (40, 50, 3) and cut['disparity'].shape == (40, 50)
    assert cut['occlusion'][:, 0].all()  # the disparity is positive
    drawn = {RandomStereoCrop((40, 50), largest=True)(scene)['left'].shape for _ in range(9)}
    assert len(drawn) > 3


def test_colours_change_and_shapes_do_not(scene):
    np.random.seed(0)
    changed = StereoPhotometric()(scene)
    assert changed['right'].shape == scene['right'].shape and changed['left'].dtype == np.uint8
    assert np.abs(changed['left'].astype(int) - scene['left']).mean() > 1


def test_packed(scene):
    packed = PackStereo()(scene)
    assert packed['inputs']['left'].shape == (3, 64, 96)
    assert packed['data_samples'].gt_occlusion_right.shape == (64, 96)


def test_the_rule_of_occlusion_is_that_of_sttr():
    case = require_golden('stereo/golden_losses.pt')['occlusion']
    disparities = zip(case['disparity_left'].numpy(), case['disparity_right'].numpy())
    for index, pair in enumerate(disparities):
        left, right = occlusion_of(*pair)
        assert np.array_equal(left, case['occluded_left'][index].numpy())
        assert np.array_equal(right, case['occluded_right'][index].numpy())


@pytest.mark.parametrize('suffix', ['.pfm', '.png'])
def test_disparity_files(tmp_path, suffix):
    disparity = np.linspace(0, 90, 60, dtype=np.float32).reshape(6, 10)
    write_disparity(tmp_path / f'd{suffix}', disparity)
    found = read_disparity(tmp_path / f'd{suffix}')
    assert np.abs(found - disparity).max() <= (0 if suffix == '.pfm' else 1 / 512)


def test_rows_of_pfm_are_from_the_bottom(tmp_path):
    rows = np.arange(6, dtype='<f4').reshape(3, 2)
    (tmp_path / 'd.pfm').write_bytes(b'Pf\n2 3\n-1.0\n' + rows[::-1].tobytes())
    assert np.array_equal(read_disparity(tmp_path / 'd.pfm'), rows)


def test_what_is_no_disparity(tmp_path):
    cv2.imwrite(str(tmp_path / 'd.png'), np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match='have 16 bits'):
        read_disparity(tmp_path / 'd.png')
    with pytest.raises(ValueError, match='cannot be read'):
        read_disparity(tmp_path / 'no.pfm')


def save(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def picture() -> np.ndarray:
    return np.full((20, 30, 3), 90, np.uint8)


@pytest.mark.parametrize('numbered', [False, True])
def test_flyingthings(tmp_path, numbered):
    for side in ('left', 'right'):
        for frame in ('0006', '0007'):
            place = f'TRAIN/A/0000/{side}/{frame}'
            save(tmp_path / f'frame_finalpass/{place}.png', picture())
            sign = 1 if side == 'left' else -1
            save(tmp_path / f'disparity/{place}.pfm', np.full((20, 30), sign * 5, np.float32))
            mask = np.zeros((20, 30), np.uint8)
            mask[:, :5] = 255
            index = int(frame) - 6
            name = f'TRAIN/{side}/{index:07d}.png' if numbered else f'{place}.png'
            save(tmp_path / 'occlusion' / name, mask)
    dataset = FlyingThings3D(str(tmp_path), pipeline=[LoadStereo(), PackStereo()])
    assert len(dataset) == 2
    sample = dataset[1]['data_samples']
    assert sample.gt_disparity.eq(5).all() and sample.gt_occlusion[:, :5].all()
    assert sample.gt_occlusion.sum() == 100
    with pytest.raises(ValueError, match='holds no frames'):
        FlyingThings3D(str(tmp_path), 'TEST')


@pytest.mark.parametrize('folders', KittiStereo.LAYOUTS, ids=['2015', '2012'])
def test_kitti(tmp_path, folders):
    for number in range(20):
        name = f'{number:06d}_10.png'
        for folder in folders[:2]:
            save(tmp_path / folder / name, picture())
        save(tmp_path / folders[2] / name, np.full((20, 30), 4 * 256, np.uint16))
    assert len(KittiStereo(str(tmp_path), part=(0, 0.95))) == 19
    dataset = KittiStereo(str(tmp_path), part=(0.95, 1), pipeline=[LoadStereo(), PackStereo()])
    sample = dataset[0]['data_samples']
    assert len(dataset) == 1 and sample.left_path.endswith('000019_10.png')
    # Without the right disparity only what leaves the image is known.
    assert sample.gt_occlusion[:, :5].all() and not sample.gt_occlusion[:, 5:].any()


def test_middlebury(tmp_path):
    mask = np.full((20, 30), 255, np.uint8)
    mask[:, :4] = 128
    mask[0] = 0
    for name in ('im0', 'im1'):
        save(tmp_path / 'Adirondack' / f'{name}.png', picture())
    disparity = np.full((20, 30), 6, np.float32)
    disparity[0] = np.inf
    save(tmp_path / 'Adirondack' / 'disp0GT.pfm', disparity)
    save(tmp_path / 'Adirondack' / 'mask0nocc.png', mask)
    load = LoadStereo(occlusion_values=(128,))
    sample = MiddleburyStereo(data_root=str(tmp_path), pipeline=[load, PackStereo()])[0]
    sample = sample['data_samples']
    assert sample.gt_occlusion.sum() == 19 * 4 and sample.gt_disparity[0].eq(0).all()
