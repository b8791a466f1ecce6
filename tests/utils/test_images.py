from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from mmeffvit.utils.images import (
    list_images,
    number_order,
    read_image,
    read_profile,
    read_upright,
    write_image,
)
from mmeffvit.utils.inputs import Inputs

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_pictures_are_turned_upright_by_every_reader(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / 'turned.png'
    Image.fromarray(PICTURE).save(path, exif=exif)
    upright = read_upright(path)  # by OpenCV
    assert upright.shape == ((7, 5, 3) if orientation > 4 else (5, 7, 3))
    np.testing.assert_array_equal(read_image(path), upright)
    np.testing.assert_array_equal(read_image(path, keep=True), upright)


def modes() -> dict[str, Image.Image]:
    """Small pictures of every kind that Pillow writes and that we read."""
    rng = np.random.default_rng(0)
    data = np.repeat(np.repeat(rng.integers(0, 256, (4, 5, 4), np.uint8), 8, 0), 8, 1)
    grey, colours = Image.fromarray(data[..., 0].copy()), Image.fromarray(data[..., :3].copy())
    ink = Image.frombytes('CMYK', (40, 32), data.tobytes())
    pale = Image.frombytes('LA', (40, 32), data[..., :2].tobytes())
    deep = Image.fromarray(data[..., 0].astype(np.uint16) * 257)
    palette = colours.convert('P')
    return {
        **{'grey.png': grey, 'grey.jpg': grey, 'bits.png': grey.convert('1'), 'deep.png': deep},
        **{'ink.jpg': ink, 'ink.tif': ink, 'pale.png': pale, 'pale.tif': pale},
        **{'palette.png': palette, 'palette.bmp': palette, 'bits.tif': grey.convert('1')},
        **{'alpha.png': Image.fromarray(data), 'colours.webp': colours, 'colours.jpg': colours},
    }


@pytest.mark.parametrize('name', modes())
def test_every_kind_of_picture_is_the_same_to_every_reader(tmp_path, name):
    """Denoisers read by ``read_image``, the other tools as the frameworks do."""
    picture = modes()[name]
    picture.save(tmp_path / name)
    ours, theirs = read_image(tmp_path / name), read_upright(tmp_path / name)
    assert ours.shape == theirs.shape == (32, 40, 3)
    if ours.dtype == np.uint16:
        ours = (ours >> 8).astype(np.uint8)
    np.testing.assert_array_equal(ours, theirs)
    if name != 'deep.png':  # which Pillow does not convert
        expected = np.asarray(Image.open(tmp_path / name).convert('RGB')).astype(int)
        assert np.abs(theirs - expected).mean() < 1


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
@pytest.mark.parametrize('shape', [(6, 7), (6, 7, 3)])
def test_a_colour_profile_is_kept(tmp_path, suffix, shape):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes())
    profile[16:20] = b'GRAY' if len(shape) == 2 else b'RGB '
    profile += bytes(70000)  # more than one segment of a JPEG file
    image = np.full(shape, 100, np.uint8)
    source, path = tmp_path / f'source{suffix}', tmp_path / f'x{suffix}'
    Image.fromarray(image).save(source, icc_profile=bytes(profile))
    assert read_profile(source) == bytes(profile)
    write_image(path, image, read_profile(source))
    assert read_profile(path) == bytes(profile)
    np.testing.assert_array_equal(read_image(path, keep=True), image)
    other = image if len(shape) == 3 else np.repeat(image[..., None], 3, 2)
    profile[16:20] = b'CMYK'
    write_image(path, other, bytes(profile))
    assert read_profile(path) is None, 'of other channels'
    assert read_profile(tmp_path / 'none.png') is None


@pytest.mark.parametrize('suffix', ['.jpg', '.JPEG', '.jfif', '.bmp', '.webp'])
def test_16_bits_are_refused_where_8_fit(tmp_path, suffix):
    path = tmp_path / f'deep{suffix}'
    with pytest.raises(ValueError, match=f'deep{suffix} cannot hold 16 bits: name it .png'):
        write_image(path, PICTURE.astype(np.uint16) * 257)
    assert not path.exists()
    write_image(path, PICTURE)
    assert np.abs(read_image(path).astype(int) - PICTURE).mean() < 60


@pytest.mark.parametrize('read', [read_image, read_upright])
def test_a_picture_that_is_too_large_is_named(monkeypatch, tmp_path, read):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    write_image(tmp_path / 'large.png', PICTURE)
    with pytest.raises(ValueError, match=r'large.png is too large: .*35 pixels'):
        read(tmp_path / 'large.png')


def test_numbered_files_are_in_number_order(tmp_path):
    names = ['1/10.png', '1/2.png', '10/1.png', '2/1.png', 'a10.png', 'a9b1.png', 'a9.png']
    for name in names:
        write_image(tmp_path / name, PICTURE)
    ordered = ['1/2.png', '1/10.png', '2/1.png', '10/1.png', 'a9.png', 'a9b1.png', 'a10.png']
    assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == ordered
    assert [p.name for p in Inputs([tmp_path / '*.png'], 'out').files] == ordered[4:]
    assert sorted(['01', '1', '001'], key=number_order) == ['001', '01', '1']


def test_a_folder_gives_its_videos_and_names_what_it_cannot(tmp_path):
    write_image(tmp_path / 'in' / 'a.jfif', PICTURE)
    for name in ('clip.mp4', 'b.gif', 'text.txt'):
        (tmp_path / 'in' / name).touch()
    inputs = Inputs([tmp_path / 'in'], tmp_path / 'out')
    assert [path.name for path in inputs.files] == ['a.jfif', 'clip.mp4']
    ((path, reason),) = inputs.report().failed
    assert path.name == 'b.gif' and 'of a type that is not read; convert it to PNG' in reason


def test_a_folder_of_nothing_that_is_read(tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'text.txt').touch()
    with pytest.raises(ValueError, match='in holds no image or video'):
        Inputs([tmp_path / 'in'], tmp_path / 'out')


def test_patterns_do_not_follow_links_in_circles(tmp_path):
    write_image(tmp_path / 'in' / 'a.png', PICTURE)
    (tmp_path / 'in' / 'loop').symlink_to(tmp_path / 'in')
    write_image(tmp_path / 'elsewhere' / 'b.png', PICTURE)
    (tmp_path / 'in' / 'linked').symlink_to(tmp_path / 'elsewhere')
    files = Inputs([f'{tmp_path}/in/**/*.png'], tmp_path / 'out').files
    assert [path.name for path in files] == ['a.png', 'b.png']


def test_damaged_pictures_are_value_errors(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in ('.png', '.jpg', '.tif', '.webp', '.bmp'):
        whole = tmp_path / f'whole{suffix}'
        write_image(whole, cv2.resize(PICTURE, (40, 30)))
        data = np.frombuffer(whole.read_bytes(), np.uint8)
        for number in range(40):
            damaged = data.copy()
            damaged[rng.integers(0, len(data), 8)] = rng.integers(0, 256, 8, np.uint8)
            path = tmp_path / f'{number}{suffix}'
            path.write_bytes(damaged.tobytes())
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                try:
                    read_image(path)
                except ValueError as error:
                    assert str(path) in str(error)
