"""Readers, each on made data of the published layout."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from mmeffvit.matching import (
    HPatches,
    LoadImagePair,
    MegaDepthPairs,
    PackPair,
    PairList,
    PerSubsetSampler,
    ResizePair,
    ScanNetPairs,
)

K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])


def pose(shift: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = shift
    return matrix


def picture(path, size=(48, 64), seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)


@pytest.fixture
def scannet(tmp_path):
    scene = tmp_path / 'scene0012_03'
    for frame in (0, 15, 30):
        picture(scene / 'color' / f'{frame}.jpg', seed=frame)
        (scene / 'depth').mkdir(exist_ok=True)
        (scene / 'pose').mkdir(exist_ok=True)
        depth = np.full((48, 64), 2000 + frame, np.uint16)
        cv2.imwrite(str(scene / 'depth' / f'{frame}.png'), depth)
        np.savetxt(scene / 'pose' / f'{frame}.txt', pose(frame))
    (tmp_path / 'index').mkdir()
    name = np.array([[12, 3, 0, 15], [12, 3, 0, 30]], np.uint16)
    np.savez(tmp_path / 'index' / 'a.npz', name=name, score=np.array([0.5, 0.2], np.float16))
    np.savez(tmp_path / 'index' / 'b.npz', name=name[:1], score=np.array([0.9], np.float16))
    (tmp_path / 'list.txt').write_text('a.npz\nb.npz\n')
    np.savez(tmp_path / 'intrinsics.npz', scene0012_03=K)
    return tmp_path


def test_scannet_trains_by_scene(scannet):
    dataset = ScanNetPairs(
        str(scannet), 'list.txt', min_score=0.4, pipeline=[LoadImagePair(), PackPair()]
    )
    assert len(dataset) == 2
    sample = dataset[0]['data_samples']
    assert sample.depth1[0, 0].item() == pytest.approx(2.015)
    # From camera 0 at 0 to camera 1 at 15: a point moves by -15.
    assert sample.pose[0, 3].item() == -15
    assert sample.intrinsics0.shape == (3, 3)
    assert dataset[0]['inputs']['image0'].shape == (1, 48, 64)


def test_scannet_test_pairs_need_no_score_and_no_depth(scannet):
    name = np.array([[12, 3, 15, 30]], np.uint16)
    np.savez(scannet / 'test.npz', name=name)
    dataset = ScanNetPairs(
        str(scannet), 'test.npz', depth=False, pipeline=[PackPair()], lazy_init=True
    )
    dataset.full_init()
    info = dataset.get_data_info(0)
    assert len(dataset) == 1 and 'depth0' not in info
    assert info['image1_path'].endswith('scene0012_03/color/30.jpg')


def test_a_sampler_draws_as_many_of_every_scene(scannet):
    dataset = ScanNetPairs(str(scannet), 'list.txt', pipeline=[])
    sampler = PerSubsetSampler(dataset, 7, seed=0)
    first = list(sampler)
    assert len(first) == len(sampler) == 14
    assert sum(index == 2 for index in first) == 7  # the only pair of the second file
    sampler.set_epoch(1)
    assert list(sampler) != first


@pytest.fixture
def megadepth(tmp_path):
    h5py = pytest.importorskip('h5py')
    root = tmp_path / 'phoenix'
    views = 3
    for view in range(views):
        picture(root / 'imgs' / f'{view}.jpg', (40 + view, 60), view)
        picture(tmp_path / 'Undistorted_SfM' / '0001' / 'images' / f'{view}.jpg', (40 + view, 60))
        (root / 'depths').mkdir(exist_ok=True)
        with h5py.File(root / 'depths' / f'{view}.h5', 'w') as file:
            file['depth'] = np.full((40 + view, 60), 5.0 + view, np.float32)
    objects = dict(
        image_paths=np.array(
            [f'Undistorted_SfM/0001/images/{view}.jpg' for view in range(views)], object
        ),
        depth_paths=np.array([f'phoenix/depths/{view}.h5' for view in range(views)], object),
        intrinsics=np.array([K] * views),
        poses=np.array([pose(view) for view in range(views)]),
        pair_infos=np.array([((0, 1), 0.5, ()), ((1, 2), 0.05, ())], object),
    )
    (tmp_path / 'scene_info').mkdir()
    np.savez(tmp_path / 'scene_info' / '0001_0.1_0.7.npz', **objects)
    (tmp_path / 'train.txt').write_text('0001_0.1_0.7\n')
    return tmp_path


@pytest.mark.parametrize('beside', [False, True])
def test_megadepth(megadepth, beside):
    dataset = MegaDepthPairs(
        str(megadepth),
        'train.txt',
        min_overlap=0.1,
        images_beside_depth=beside,
        pipeline=[LoadImagePair(), ResizePair(long_side=48, divisor=8), PackPair()],
    )
    assert len(dataset) == 1
    packed = dataset[0]
    sample = packed['data_samples']
    assert packed['inputs']['image1'].shape == (1, 32, 48)
    assert sample.scale1 == (60 / 48, 41 / 32)
    assert sample.depth0[0, 0] == 5 and sample.depth1.shape == (41, 60)
    assert sample.pose[0, 3] == 1
    assert ('imgs' in sample.image0_path) == beside


class Evil:
    def __reduce__(self):
        return print, ('run',)


def test_an_index_runs_nothing(tmp_path, capsys):
    np.savez(tmp_path / 'bad.npz', pair_infos=np.array([Evil()], object))
    with pytest.raises(ValueError, match=r'would run builtins\.print'):
        MegaDepthPairs(str(tmp_path), 'bad.npz')
    assert not capsys.readouterr().out
    assert pickle  # the index is one


def test_hpatches(tmp_path):
    for name in ('i_a', 'v_b', 'v_talent'):
        for number in range(1, 7):
            picture(tmp_path / name / f'{number}.ppm', seed=number)
            if number > 1:
                np.savetxt(tmp_path / name / f'H_1_{number}', np.eye(3) * number)
    assert len(HPatches(str(tmp_path))) == 10
    dataset = HPatches(
        str(tmp_path), 'v', pipeline=[LoadImagePair(), ResizePair(short_side=24), PackPair()]
    )
    assert len(dataset) == 5
    sample = dataset[1]['data_samples']
    assert sample.homography[0, 0] == 3 and sample.scene == 'v_b'
    assert sample.size0 == (24, 32) and sample.scale0 == (2.0, 2.0)
    with pytest.raises(ValueError, match='no sequence'):
        HPatches(str(tmp_path / 'nothing'))


def test_pairs_of_ones_own(tmp_path):
    for index in range(4):
        picture(tmp_path / f'{index}.png', seed=index)
    assert len(PairList(data_root=str(tmp_path))) == 2
    numbers = ' '.join(str(n) for n in (*K.ravel(), *K.ravel(), *pose(2).ravel()))
    lines = ['# pairs', '0.png 1.png', '1.png 2.png 1 0 5 0 1 0 0 0 1', f'2.png 3.png {numbers}']
    (tmp_path / 'pairs.txt').write_text('\n'.join(lines))
    dataset = PairList(data_root=str(tmp_path), ann_file='pairs.txt')
    assert len(dataset) == 3
    assert dataset.get_data_info(1)['homography'][0, 2] == 5
    assert dataset.get_data_info(2)['pose'][0, 3] == 2
    (tmp_path / 'pairs.txt').write_text('0.png 1.png 1 2 3')
    with pytest.raises(ValueError, match=r'Line 1 of .* must hold two images'):
        PairList(data_root=str(tmp_path), ann_file='pairs.txt')
