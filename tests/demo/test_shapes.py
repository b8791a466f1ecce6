import hashlib
import json

import cv2
import numpy as np
import pytest

from conftest import SHAPES
from shapes import CLASSES, KINDS, TASKS, TINTS, ShapesConfig, make_shapes
from shapes.mosaics import draw_mosaic
from shapes.patterns import draw_pattern
from shapes.polygons import mask_to_polygons, signed_area
from shapes.scene import draw_clip, draw_scene


def fingerprint(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def test_bytes_depend_on_the_seed_alone_not_on_workers(shapes, tmp_path):
    make_shapes(tmp_path / 'again', SHAPES, workers=2)
    assert fingerprint(tmp_path / 'again') == fingerprint(shapes)
    other = ShapesConfig(**{**SHAPES.__dict__, 'seed': 1})
    make_shapes(tmp_path / 'other', other, ['scenes'])
    assert fingerprint(tmp_path / 'other' / 'scenes') != fingerprint(shapes / 'scenes')


def test_a_larger_dataset_starts_with_the_smaller_one(shapes, tmp_path):
    make_shapes(
        tmp_path, ShapesConfig(num_train=9, num_val=1, size_range=SHAPES.size_range), ['scenes']
    )
    for name in ('train/000005.jpg', 'labels/val/000000.png'):
        assert (tmp_path / 'scenes' / name).read_bytes() == (shapes / 'scenes' / name).read_bytes()


def test_scenes_agree_in_boxes_polygons_and_label_maps(shapes):
    mask_utils = pytest.importorskip('pycocotools.mask')
    scenes = shapes / 'scenes'
    coco = json.loads((scenes / 'annotations/instances_train.json').read_text())
    assert [c['name'] for c in coco['categories']] == list(CLASSES)
    assert len(coco['images']) == SHAPES.num_train
    for image in coco['images']:
        size = image['height'], image['width']
        assert cv2.imread(str(scenes / 'train' / image['file_name'])).shape[:2] == size
        rebuilt = np.zeros(size, np.uint8)
        for annotation in coco['annotations']:
            if annotation['image_id'] != image['id']:
                continue
            rles = mask_utils.frPyObjects(annotation['segmentation'], *size)
            mask = mask_utils.decode(mask_utils.merge(rles)).astype(bool)
            ys, xs = np.nonzero(mask)
            left, top, width, height = annotation['bbox']
            assert (xs.min(), ys.min()) == (left, top)
            assert (xs.max() + 1, ys.max() + 1) == (left + width, top + height)
            assert annotation['area'] == mask.sum()
            assert not rebuilt[mask].any(), 'visible pixels of two instances overlap'
            rebuilt[mask] = annotation['category_id']
        name = image['file_name'].replace('.jpg', '.png')
        labels = cv2.imread(str(scenes / 'labels/train' / name), cv2.IMREAD_UNCHANGED)
        assert (labels == rebuilt).all()


def test_sizes_vary_and_are_no_multiples_of_32():
    config = ShapesConfig(size_range=(64, 97))
    assert {64, 96} & set(config.sides()) == set()
    assert {65, 95, 97} < set(config.sides())


def test_objects_overlap_and_every_class_occurs():
    scenes = [draw_scene(SHAPES.rng('scenes', 'val', i), (131, 143), 6) for i in range(12)]
    assert {label for scene in scenes for label in scene.labels} == set(range(len(CLASSES)))
    touching = 0
    for scene in scenes:
        counts = sum(cv2.dilate(m.astype(np.uint8), np.ones((3, 3))) for m in scene.masks)
        touching += int(counts.max() > 1)
    assert touching >= 4


def test_noisy_pairs_differ_by_the_noise_asked_for(tmp_path):
    config = ShapesConfig(num_train=3, num_val=1, sigma=10)
    make_shapes(tmp_path, config, ['denoising'])
    differences = []
    for index in range(3):
        clean, noisy = (
            cv2.imread(str(tmp_path / f'denoising/train/{kind}/{index:06d}.png')).astype(float)
            for kind in ('clean', 'noisy')
        )
        inside = (clean > 40) & (clean < 215)  # elsewhere the range of uint8 cuts the noise
        differences.append((noisy - clean)[inside])
    difference = np.concatenate(differences)
    assert abs(difference.mean()) < 0.2
    assert abs(difference.std() - 10) < 0.2


def test_clips_move_over_a_background_that_stands_still(shapes):
    frames = draw_clip(np.random.default_rng(0), (101, 119), 4, 3)
    moved = np.abs(frames[0].astype(int) - frames[3]).max(2) > 20
    assert 0.005 < moved.mean() < 0.5
    assert (np.abs(frames[0].astype(int) - frames[3]).max(2) == 0).mean() > 0.3
    assert len(list((shapes / 'video/train/noisy/0000').iterdir())) == SHAPES.num_frames


def test_one_kind_of_pattern_per_classification_folder(shapes):
    for index, name in enumerate(KINDS):
        (path,) = (shapes / 'classification/train' / name).glob('*.jpg')
        assert path.stem == f'{index:06d}'


def test_a_pattern_is_what_its_kind_says():
    """Spectra tell the kinds with one direction and those with none."""
    for seed in range(5):
        peaks = {}
        for kind in KINDS:
            image = draw_pattern(np.random.default_rng(seed), (96, 96), kind)
            assert image.shape == (96, 96, 3) and image.dtype == np.float32
            assert image.min() >= 0 and image.max() <= 255 and image.std((0, 1)).max() > 5
            grey = image.mean(2) - image.mean()
            power = np.abs(np.fft.fft2(grey * np.outer(np.hanning(96), np.hanning(96)))) ** 2
            y, x = np.unravel_index(power[:48].argmax(), (48, 96))
            peaks[kind] = (y, min(x, 96 - x)), power[:48].max() / power.sum()
        (y, x), share = peaks['diagonals']
        assert 0.5 < y / x < 2 and share > 0.05
        (y, x), share = peaks['stripes']
        assert min(y, x) < 0.4 * max(y, x) and share > 0.05
        assert max(peaks['smooth'][0]) <= 4
        assert peaks['grain'][1] < 0.02


def test_the_pixels_of_a_mosaic_have_the_tint_of_their_label_on_average():
    rng = np.random.default_rng(0)
    sums, counts = np.zeros((4, 3)), np.zeros(4)
    for _ in range(20):
        image, labels = draw_mosaic(rng, (101, 119))
        assert image.shape == (101, 119, 3) and image.dtype == labels.dtype == np.uint8
        for tint in range(4):
            sums[tint] += image[labels == tint].sum(0, dtype=float)
            counts[tint] += (labels == tint).sum()
    blue, green, red, white = np.round(sums / counts[:, None] - 128) > 0
    assert blue.tolist() == [True, False, False] and green.tolist() == [False, True, False]
    assert red.tolist() == [False, False, True] and white.all()


def test_mosaics_come_with_label_maps(shapes):
    for path in sorted((shapes / 'mosaics/val').iterdir()):
        labels = cv2.imread(
            str(shapes / f'mosaics/labels/val/{path.stem}.png'), cv2.IMREAD_UNCHANGED
        )
        assert labels.shape == cv2.imread(str(path)).shape[:2]
        assert labels.max() < len(TINTS)


def test_complete_folders_are_kept_and_others_refused(shapes, tmp_path):
    assert make_shapes(shapes, SHAPES) == dict.fromkeys(TASKS, False)
    with pytest.raises(FileExistsError, match='--force'):
        make_shapes(shapes, ShapesConfig(num_train=1, num_val=1), ['scenes'])
    (tmp_path / 'video').mkdir()
    (tmp_path / 'video' / 'holiday.png').touch()
    with pytest.raises(FileExistsError):
        make_shapes(tmp_path, SHAPES, ['video'])
    assert make_shapes(tmp_path, SHAPES, ['video'], force=True) == {'video': True}
    assert not (tmp_path / 'video' / 'holiday.png').exists()


def test_an_interrupted_run_leaves_no_folder_behind_its_name(tmp_path):
    def interrupt(records, **_):
        yield next(iter(records))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path, SHAPES, ['scenes'], track=interrupt)
    assert not (tmp_path / 'scenes').exists()
    assert make_shapes(tmp_path, SHAPES, ['scenes']) == {'scenes': True}
    assert not (tmp_path / '.scenes.partial').exists()


def test_unrelated_arguments_do_not_invalidate_a_task():
    louder = ShapesConfig(**{**SHAPES.__dict__, 'sigma': 50.0})
    assert louder.digest('scenes') == SHAPES.digest('scenes')
    assert louder.digest('denoising') != SHAPES.digest('denoising')


@pytest.mark.parametrize(
    'options', [{'size_range': (64, 64)}, {'size_range': (20, 90)}, {'num_val': 0}, {'sigma': -1}]
)
def test_bad_arguments_name_the_value(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ShapesConfig(**options)


def test_unknown_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match='audio'):
        make_shapes(tmp_path, SHAPES, ['audio'])


def test_polygons_give_the_mask_back():
    mask_utils = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    traced = 0
    for _ in range(60):
        noise = cv2.GaussianBlur(rng.random((17, 23)), (0, 0), rng.choice([0.4, 0.8, 1.5]))
        mask = noise > np.quantile(noise, rng.uniform(0.3, 0.9))
        outlines = mask_to_polygons(mask)
        assert sum(signed_area(outline) for outline in outlines) == mask.sum()
        if all(signed_area(outline) > 0 for outline in outlines):
            polygons = [outline.ravel().tolist() for outline in outlines]
            rle = mask_utils.merge(mask_utils.frPyObjects(polygons, 17, 23))
            assert (mask_utils.decode(rle) == mask).all()
            traced += 1
    assert traced > 20


def test_holes_run_the_other_way():
    mask = np.ones((7, 9), bool)
    mask[2:4, 3:6] = False
    areas = sorted(signed_area(outline) for outline in mask_to_polygons(mask))
    assert areas == [-6, 63]
    assert mask_to_polygons(np.zeros((4, 4), bool)) == []
