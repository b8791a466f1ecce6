from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import ImageCms

from helpers.tool_runs import start_tool
from mmeffvit.denoising import Denoiser, Restorer, denoise_path
from mmeffvit.utils.images import read_image, read_profile, write_image
from mmeffvit.utils.videos import Video, VideoWriter

IMAGE_MODEL = dict(
    type='Restorer',
    backbone=dict(type='SkipUformer', arch=dict(embed_dims=4, depths=(1,) * 9)),
)
CLIP_MODEL = dict(
    type='Restorer',
    backbone=dict(
        type='UniFormerUNet',
        embed_dims=(4, 8),
        depths=(1, 1),
        kinds=('local', 'global'),
        head_dims=8,
        num_frames=3,
    ),
)


@pytest.fixture(scope='module')
def denoiser():
    torch.manual_seed(0)
    return Denoiser.from_config(Config(dict(model=IMAGE_MODEL)))


@pytest.fixture(scope='module')
def clip_denoiser():
    torch.manual_seed(0)
    return Denoiser.from_config(Config(dict(model=CLIP_MODEL)))


def _image(shape, dtype=np.uint8, seed=0) -> np.ndarray:
    smooth = np.random.default_rng(seed).random((2, 2, *shape[2:]))
    smooth = cv2.resize(smooth, shape[1::-1])
    return (smooth * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('shape', [(20, 30), (20, 30, 3), (20, 30, 4)])
def test_arrays_keep_type_and_channels(denoiser, shape, dtype):
    image = _image(shape, dtype)
    out = denoiser(image)
    assert out.dtype == dtype and out.shape == shape
    if shape[2:] == (4,):
        np.testing.assert_array_equal(out[..., 3], image[..., 3])


def test_array_equals_the_model(denoiser):
    image = _image((20, 30, 3))
    noisy = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = denoiser.model.backbone(noisy).clamp(0, 1)[0].permute(1, 2, 0) * 255
    np.testing.assert_array_equal(denoiser(image), expected.round().numpy().astype(np.uint8))


def test_folder_with_corrupt_files(denoiser, tmp_path):
    source, out = tmp_path / 'in', tmp_path / 'out'
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    write_image(source / 'a.png', _image((20, 30, 3), np.uint16), profile)
    write_image(source / 'deep' / 'b.jpg', _image((24, 18, 3)), profile)
    write_image(source / 'broken.png', _image((90, 90, 3)))
    data = (source / 'broken.png').read_bytes()
    (source / 'broken.png').write_bytes(data[: len(data) // 2])
    (source / 'empty.png').write_bytes(b'')
    steps = []

    def track(iterable, description, total):
        steps.append(total)
        for step in iterable:
            steps.append(step)
            yield step

    report = denoise_path(denoiser, source, out, side_by_side=True, track=track)
    assert steps[0] == len(steps) - 1 == 4
    assert sorted(path.name for path, _ in report.failed) == ['broken.png', 'empty.png']
    assert all(path.name in reason for path, reason in report.failed)
    assert read_image(out / 'a.png').dtype == np.uint16
    assert read_profile(out / 'a.png') == read_profile(out / 'deep' / 'b.jpg') == profile
    np.testing.assert_array_equal(read_image(out / 'a.png'), denoiser(read_image(source / 'a.png')))
    assert read_image(out / 'deep' / 'b.jpg').shape == (24, 18, 3)
    assert read_image(out / 'side_by_side' / 'a.png').shape == (20, 62, 3)
    assert not (out / 'broken.png').exists()


def test_folder_of_frames_is_a_clip(clip_denoiser, tmp_path):
    frames = [_image((16, 24, 3), seed=i) for i in range(5)]
    for i, frame in enumerate(frames):
        write_image(tmp_path / 'clip' / f'{i}.png', frame)
    (tmp_path / 'clip' / '2b.png').write_text('not a frame')
    report = denoise_path(clip_denoiser, tmp_path / 'clip', tmp_path / 'out')
    assert [path.name for path, _ in report.failed] == ['2b.png']
    expected = list(clip_denoiser.clip(frames))
    for i, frame in enumerate(expected):
        np.testing.assert_array_equal(read_image(tmp_path / 'out' / f'{i}.png'), frame)
    alone = clip_denoiser(frames[0])
    assert (alone != expected[0]).any()  # neighbours matter


def test_frame_of_another_size_is_named(clip_denoiser, tmp_path):
    for i, size in enumerate([(16, 24), (16, 24), (16, 20)]):
        write_image(tmp_path / 'clip' / f'{i}.png', _image((*size, 3)))
    report = denoise_path(clip_denoiser, tmp_path / 'clip', tmp_path / 'out')
    assert [path.name for path, _ in report.failed] == ['2.png']
    assert len(report.written) == 2


def test_lossless_video(clip_denoiser, tmp_path):
    frames = [_image((32, 48, 3), seed=i) for i in range(4)]
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'FFV1'), 10, (48, 32))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    report = denoise_path(clip_denoiser, path, tmp_path / 'out', side_by_side=True)
    assert not report.failed
    capture = cv2.VideoCapture(str(tmp_path / 'out' / 'clip.avi'))
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    for expected in clip_denoiser.clip(frames):
        found, frame = capture.read()
        assert found
        # FFV1 is lossless in the colour space that OpenCV converts to.
        assert np.abs(frame[..., ::-1].astype(int) - expected).mean() < 1.5
    assert (tmp_path / 'out' / 'side_by_side' / 'clip.avi').stat().st_size
    path.write_bytes(path.read_bytes()[:200])
    report = denoise_path(clip_denoiser, path, tmp_path / 'again')
    assert [name for name, _ in report.failed] == [path]


def test_an_aborted_video_leaves_no_file(denoiser, tmp_path):
    with VideoWriter(tmp_path / 'clip.avi', 10) as writer:
        for i in range(4):
            writer.write(_image((32, 48, 3), seed=i))

    def track(steps, **_):
        yield next(iter(steps))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise_path(denoiser, tmp_path / 'clip.avi', tmp_path / 'out', True, track)
    assert [path for path in (tmp_path / 'out').rglob('*') if path.is_file()] == []
    denoise_path(denoiser, tmp_path / 'clip.avi', tmp_path / 'out', True)
    assert len(list(Video(tmp_path / 'out/clip.avi'))) == 4


def test_a_picture_that_cannot_be_written_is_its_own_failure(denoiser, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a.ppm').write_bytes(b'P5 20 30 255\n' + bytes(600))
    write_image(tmp_path / 'in/b.png', _image((20, 30, 3)))
    report = denoise_path(denoiser, tmp_path / 'in', tmp_path / 'out')
    assert [path.name for path, _ in report.failed] == ['a.ppm']
    assert report.written == [tmp_path / 'out/b.png']


def test_large_images_go_through_in_tiles(denoiser):
    largest = []
    hook = denoiser.model.backbone.register_forward_pre_hook(
        lambda module, args: largest.append(args[0].shape[-2] * args[0].shape[-1])
    )
    denoiser.model.test_cfg.update(tile=128, overlap=0)
    denoiser(_image((200, 300, 3)))
    denoiser.model.test_cfg.clear()
    hook.remove()
    assert max(largest) == 128 * 128


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({}, (256, 64)),
        (dict(tile=64), (64, 16)),
        (dict(tile=96), (96, 16)),  # 24, to a multiple of the size divisor
        (dict(tile=0), (0, 0)),
        (dict(tile=64, overlap=32), (64, 32)),
    ],
)
def test_the_overlap_scales_with_the_tile(given, expected):
    backbone = dict(IMAGE_MODEL['backbone'], window_size=1)
    model = dict(IMAGE_MODEL, backbone=backbone, test_cfg=dict(tile=256, overlap=64))
    denoiser = Denoiser.from_config(Config(dict(model=model)), **given)
    assert denoiser.model.backbone.size_divisor == 16
    assert tuple(denoiser.model.test_cfg[key] for key in ('tile', 'overlap')) == expected
    assert denoiser(_image((70, 100, 3))).shape == (70, 100, 3)


def test_a_picture_that_fails_in_the_network_is_its_own_failure(denoiser, tmp_path, monkeypatch):
    write_image(tmp_path / 'in/a.png', _image((1, 1, 3)))
    write_image(tmp_path / 'in/b.png', _image((20, 30, 3)))
    clip = Denoiser.clip

    def fails_on_one_pixel(self, frames):
        for frame in frames:
            if frame.size == 3:
                raise RuntimeError('too small')
            yield from clip(self, [frame])

    monkeypatch.setattr(Denoiser, 'clip', fails_on_one_pixel)
    report = denoise_path(denoiser, tmp_path / 'in', tmp_path / 'out')
    assert [path.name for path, _ in report.failed] == ['a.png']
    assert report.failed[0][1].endswith('a.png: RuntimeError: too small')
    assert report.written == [tmp_path / 'out/b.png']


def test_weights_of_the_network_or_the_model(tmp_path):
    torch.manual_seed(1)
    model = Restorer(IMAGE_MODEL['backbone'])
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    torch.save(model.backbone.state_dict(), tmp_path / 'network.pth')
    config = Config(dict(model=IMAGE_MODEL))
    for name in ('model.pth', 'network.pth'):
        loaded = Denoiser.from_config(config, tmp_path / name).model
        assert all(map(torch.equal, loaded.parameters(), model.parameters()))
    torch.save({'stem.0.bias': torch.zeros(4)}, tmp_path / 'part.pth')
    with pytest.raises(ValueError, match='convert_checkpoint'):
        Denoiser.from_config(config, tmp_path / 'part.pth')


def test_what_cannot_be_denoised_is_named(denoiser, tmp_path):
    with pytest.raises(ValueError, match='nothing at'):
        denoise_path(denoiser, tmp_path / 'absent', tmp_path / 'out')
    with pytest.raises(ValueError, match='holds no image'):
        denoise_path(denoiser, tmp_path, tmp_path / 'out')
    (tmp_path / 'a.txt').write_text('')
    with pytest.raises(ValueError, match='no image or video'):
        denoise_path(denoiser, tmp_path / 'a.txt', tmp_path / 'out')
    with pytest.raises(ValueError, match='another one'):
        denoise_path(denoiser, tmp_path / 'a.txt', tmp_path)


def test_command(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(f'model = {IMAGE_MODEL!r}\n')
    torch.save(Restorer(IMAGE_MODEL['backbone']).state_dict(), tmp_path / 'weights.pth')
    write_image(tmp_path / 'in' / 'good.png', _image((20, 30, 3)))
    (tmp_path / 'in' / 'bad.png').write_text('bad')

    def run(source: str):
        paths = (config, tmp_path / 'weights.pth', tmp_path / source)
        options = ('--out', tmp_path / 'out', '--device', 'cpu')
        return start_tool('denoise.py', *paths, *options, cwd=tmp_path)

    done = run('in')
    assert done.returncode == 1, done.stderr
    assert 'bad.png' in done.stderr and (tmp_path / 'out' / 'good.png').is_file()
    absent = run('absent')
    assert absent.returncode == 2 and 'Traceback' not in absent.stderr
    assert run('in/good.png').returncode == 0
