import resource
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mmeffvit.utils.images import read_image, write_image
from mmeffvit.utils.videos import CODECS, Video, VideoWriter

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), np.uint8)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('suffix', CODECS)
def test_every_frame_is_in_the_file(tmp_path, suffix):
    path = tmp_path / f'new/clip{suffix}'
    with VideoWriter(path, 10) as writer:
        for frame in FRAMES:
            writer.write(frame)
            assert not path.exists()
    assert writer.written == [path]
    assert names(path.parent) == [path.name]
    found = np.stack(list(Video(path)))
    assert found.shape == FRAMES.shape
    if suffix in ('.avi', '.mkv'):
        assert np.array_equal(found, FRAMES)


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_abort_leaves_no_file(tmp_path, error):
    with pytest.raises(error), VideoWriter(tmp_path / 'clip.avi', 10) as writer:
        writer.write(FRAMES[0])
        raise error
    assert names(tmp_path) == []


def test_no_frame_no_file(tmp_path):
    with VideoWriter(tmp_path / 'clip.avi', 10) as writer:
        pass
    assert writer.written == [] and names(tmp_path) == []


def test_frames_of_another_size_are_refused(tmp_path):
    refusal = pytest.raises(ValueError, match=r'frames of \(32, 48, 3\), not \(16, 48, 3\)')
    with refusal, VideoWriter(tmp_path / 'clip.avi', 10) as writer:
        writer.write(FRAMES[0])
        writer.write(FRAMES[0, :16])
    assert names(tmp_path) == []


def test_frames_that_did_not_arrive_are_noticed(tmp_path, monkeypatch):
    class Lossy:
        def __init__(self, *args):
            self.inner = make(*args)
            self.count = 0

        def isOpened(self):
            return self.inner.isOpened()

        def write(self, frame):
            self.count += 1
            if self.count < 4:
                self.inner.write(frame)

        def release(self):
            self.inner.release()

    make, fourcc = cv2.VideoWriter, cv2.VideoWriter.fourcc
    Lossy.fourcc = staticmethod(fourcc)
    monkeypatch.setattr(cv2, 'VideoWriter', Lossy)
    refusal = pytest.raises(OSError, match='3 of 6 frames are in it; is the disk full')
    with refusal, VideoWriter(tmp_path / 'clip.avi', 10) as writer:
        for frame in FRAMES:
            writer.write(frame)
    assert names(tmp_path) == []


# A limit on the size of files is what a full disk is to a writer.
FULL = """
import resource, signal, sys
import numpy as np
from mmeffvit.utils.images import write_image
from mmeffvit.utils.videos import VideoWriter
from mmeffvit.utils.atomic import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
def video(path):
    with VideoWriter(path, 10) as writer:
        for frame in frames:
            writer.write(frame)
write = dict(
    avi=video, mkv=video, mp4=video,
    png=lambda path: write_image(path, frames.reshape(-1, 64, 3)),
    tiff=lambda path: write_image(path, frames.reshape(-1, 64, 3)),
    json=lambda path: write_text(path, 'x' * 50000),
)[sys.argv[1].rpartition('.')[2]]
try:
    write(sys.argv[1])
except OSError as error:
    print('refused:', error)
"""


@pytest.mark.parametrize('suffix', ['avi', 'mkv', 'mp4', 'png', 'tiff', 'json'])
def test_a_full_disk_leaves_no_file_that_looks_whole(tmp_path, suffix):
    assert resource.RLIMIT_FSIZE is not None and signal.SIGXFSZ
    path = tmp_path / f'out.{suffix}'
    done = subprocess.run(
        [sys.executable, '-c', FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith('refused:'), done.stderr
    assert names(tmp_path) == []


def test_a_picture_that_a_type_cannot_hold_is_that_pictures_failure(tmp_path):
    with pytest.raises(ValueError, match=r'a\.ppm cannot hold 4x5 uint8'):
        write_image(tmp_path / 'a.ppm', np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match=r'a\.xyz cannot hold'):
        write_image(tmp_path / 'a.xyz', np.zeros((4, 5), np.uint8))
    assert names(tmp_path) == []


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('shape', [(4, 5), (4, 5, 3), (4, 5, 4)])
def test_pictures_come_back(tmp_path, dtype, shape):
    image = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    write_image(tmp_path / 'new/a.png', image)
    assert np.array_equal(read_image(tmp_path / 'new/a.png', keep=True), image)
    assert names(tmp_path / 'new') == ['a.png']
