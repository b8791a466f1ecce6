from __future__ import annotations

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from scipy.io import savemat

from mmeffvit.denoising import (
    AddGaussianNoise,
    ClipFolder,
    RandomDihedral,
    RandomPatch,
    RandomTimeReversal,
    RestorationFolder,
    SIDDBlocks,
    SIDDMedium,
)
from mmeffvit.utils.images import read_image, write_image

LOAD = [dict(type='LoadRestorationPair'), dict(type='PackRestorationInputs')]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmeffvit')


def _image(seed: int, size=(12, 16), dtype=np.uint8) -> np.ndarray:
    peak = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, peak, (*size, 3), dtype, endpoint=True)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_pairs_of_either_depth(tmp_path, dtype):
    for i, folder in enumerate(('input', 'groundtruth')):
        write_image(tmp_path / folder / 'a' / '1.png', _image(i, dtype=dtype))
    data = RestorationFolder(
        data_root=str(tmp_path),
        data_prefix=dict(noisy='input', clean='groundtruth'),
        pipeline=LOAD,
    )
    assert len(data) == 1
    sample = data[0]
    for seed, tensor in ((0, sample['inputs']), (1, sample['data_samples'].gt_img)):
        expected = _image(seed, dtype=dtype).astype(np.float64) / np.iinfo(dtype).max
        np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), expected, atol=1e-7)
    assert sample['data_samples'].noisy_path.endswith('1.png')


def test_image_without_partner_is_named(tmp_path):
    write_image(tmp_path / 'noisy' / '1.png', _image(0))
    write_image(tmp_path / 'clean' / '1.png', _image(0))
    write_image(tmp_path / 'clean' / 'lonely.png', _image(0))
    prefix = dict(noisy='noisy', clean='clean')
    with pytest.raises(ValueError, match='lonely'):
        RestorationFolder(data_root=str(tmp_path), data_prefix=prefix)
    with pytest.raises(ValueError, match='holds no image'):
        RestorationFolder(data_root=str(tmp_path), data_prefix=dict(clean='elsewhere'))


def test_pair_of_two_sizes_is_named(tmp_path):
    write_image(tmp_path / 'noisy' / '1.png', _image(0))
    write_image(tmp_path / 'clean' / '1.png', _image(0, size=(12, 17)))
    data = RestorationFolder(
        data_root=str(tmp_path), data_prefix=dict(noisy='noisy', clean='clean'), pipeline=LOAD
    )
    with pytest.raises(ValueError, match='differ in size'):
        data[0]


def test_clean_folder_with_seeded_noise(tmp_path):
    for i in range(3):
        write_image(tmp_path / f'{i}.png', np.full((64, 64, 3), 250, np.uint8))
    noise = dict(type='AddGaussianNoise', sigma=30, seed=5)

    def make():
        return RestorationFolder(
            data_root=str(tmp_path),
            data_prefix=dict(clean=''),
            pipeline=[LOAD[0], noise, LOAD[1]],
        )

    first, second = make(), make()
    a, b, again = first[0], first[1], second[0]
    assert (a['inputs'] == again['inputs']).all()
    assert (a['inputs'] != b['inputs']).any()
    difference = a['inputs'] - a['data_samples'].gt_img
    assert difference.std().item() * 255 == pytest.approx(30, rel=0.02)
    assert a['inputs'].max() > 1  # not clipped


def test_sidd_medium_layout(tmp_path):
    scene = tmp_path / 'Data' / '0001_001_S6_00100_00060_3200_L'
    write_image(scene / '0001_NOISY_SRGB_010.PNG', _image(0))
    write_image(scene / '0001_GT_SRGB_010.PNG', _image(1))
    data = SIDDMedium(data_root=str(tmp_path / 'Data'), pipeline=LOAD)
    expected = _image(1).astype(np.float32) / 255
    np.testing.assert_array_equal(data[0]['data_samples'].gt_img.permute(1, 2, 0), expected)
    (scene / '0001_GT_SRGB_010.PNG').unlink()
    with pytest.raises(ValueError, match='no clean partner'):
        SIDDMedium(data_root=str(tmp_path / 'Data'))


def test_sidd_blocks(tmp_path):
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3)).astype(np.uint8)
    savemat(tmp_path / 'ValidationNoisyBlocksSrgb.mat', dict(ValidationNoisyBlocksSrgb=blocks))
    savemat(tmp_path / 'ValidationGtBlocksSrgb.mat', dict(ValidationGtBlocksSrgb=255 - blocks))
    data = SIDDBlocks(data_root=str(tmp_path), pipeline=LOAD)
    assert len(data) == 6
    sample = data[4]
    noisy = blocks[1, 1].astype(np.float32) / 255
    np.testing.assert_array_equal(sample['inputs'].permute(1, 2, 0), noisy)
    np.testing.assert_allclose(sample['data_samples'].gt_img.permute(1, 2, 0), 1 - noisy, atol=1e-6)
    assert (sample['data_samples'].image, sample['data_samples'].block) == (1, 1)
    (tmp_path / 'ValidationGtBlocksSrgb.mat').write_bytes(b'not a mat file')
    with pytest.raises(ValueError, match='cannot be read as a MATLAB file'):
        SIDDBlocks(data_root=str(tmp_path))


@pytest.fixture
def davis(tmp_path):
    for clip, length in (('bear', 4), ('camel', 6)):
        for i in range(length):
            write_image(tmp_path / 'frames' / clip / f'{i:05d}.png', _image(i))
    (tmp_path / 'train.txt').write_text('camel\n')
    return tmp_path


def test_windows_and_whole_clips(davis):
    common = dict(data_root=str(davis), data_prefix=dict(clean='frames'))
    noise = [LOAD[0], dict(type='AddGaussianNoise', sigma=10), LOAD[1]]
    windows = ClipFolder(**common, ann_file='train.txt', num_frames=3, pipeline=noise)
    assert [
        (windows.get_data_info(i)['clip'], windows.get_data_info(i)['frame'])
        for i in range(len(windows))
    ] == [('camel', i) for i in range(4)]
    clip = windows[2]['data_samples'].gt_img
    assert clip.shape == (3, 3, 12, 16)
    expected = _image(3).astype(np.float32) / 255
    np.testing.assert_array_equal(clip[:, 1].permute(1, 2, 0), expected)
    whole = ClipFolder(**common, max_frames=5, pipeline=noise)
    assert [whole[i]['inputs'].shape[1] for i in range(len(whole))] == [4, 5]
    with pytest.raises(ValueError, match='bear has 4 frames'):
        ClipFolder(**common, num_frames=5)


def test_noisy_clips_beside_clean_ones(davis):
    for path in sorted((davis / 'frames').rglob('*.png')):
        write_image(davis / 'noisy' / path.parent.name / path.name, 255 - read_image(path))
    data = ClipFolder(
        data_root=str(davis), data_prefix=dict(clean='frames', noisy='noisy'), pipeline=LOAD
    )
    sample = data[0]
    total = sample['inputs'] + sample['data_samples'].gt_img
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_transforms_move_noisy_and_clean_alike():
    np.random.seed(0)
    clip = np.stack([_image(i, size=(20, 30)) for i in range(3)])
    results = dict(clean=clip, noisy=255 - clip)
    seen = set()
    for _ in range(60):
        moved = RandomTimeReversal()(RandomDihedral()(RandomPatch(16)(results)))
        assert moved['clean'].shape == (3, 16, 16, 3)
        np.testing.assert_array_equal(moved['noisy'], 255 - moved['clean'])
    for _ in range(100):
        seen.add(RandomDihedral()(dict(clean=clip[:1, :4, :4]))['clean'].tobytes())
    assert len(seen) == 8
    small = RandomPatch(32)(dict(clean=clip))['clean']
    assert small.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(small[:, 20:, :30], clip[:, :7:-1])
    assert results['clean'] is clip


def test_noise_follows_the_seed_of_the_run():
    clean = dict(clean=np.zeros((4, 4, 3), np.uint8))
    draws = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        draws.append(AddGaussianNoise(25)(clean)['noisy'])
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()
    with pytest.raises(ValueError, match='sigma=-1'):
        AddGaussianNoise(-1)


def test_truncated_files_are_named(tmp_path):
    for name in ('a.png', 'b.jpg'):
        path = tmp_path / name
        write_image(path, _image(0, size=(64, 64)))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=name):
            read_image(path)
    (tmp_path / 'c.png').write_text('no image')
    with pytest.raises(ValueError, match=r'c\.png'):
        read_image(tmp_path / 'c.png')
    with pytest.raises(ValueError, match='no image at'):
        read_image(tmp_path / 'd.png')
