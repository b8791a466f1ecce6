"""Damaged files through the readers: what comes back is content or one sentence, nothing else."""

from collections import Counter

import cv2
import numpy as np
import pytest

from helpers.damage import damaged
from mmeffvit.utils.images import read_image, read_upright, write_image
from mmeffvit.utils.videos import CODECS, Video, VideoWriter

pytestmark = pytest.mark.slow

#: Suffix, channels (0 is grey without an axis) and dtype of every kind of picture that is read.
PICTURES = [
    ('.png', 3, np.uint8),
    ('.png', 0, np.uint16),
    ('.png', 4, np.uint8),
    ('.png', 3, np.uint16),
    ('.jpg', 3, np.uint8),
    ('.jpg', 0, np.uint8),
    ('.bmp', 3, np.uint8),
    ('.tif', 3, np.uint8),
    ('.tif', 3, np.uint16),
    ('.webp', 3, np.uint8),
    ('.webp', 4, np.uint8),
    ('.ppm', 3, np.uint8),
]


def count(path, contents, read, refusal) -> tuple[Counter, list]:
    """Read files one after the other; what each came to, and those let through otherwise."""
    outcomes, let_through = Counter(), []
    for number, content in enumerate(contents):
        path.write_bytes(content)
        try:
            read(path)
        except refusal as error:
            outcomes['refused'] += 1
            sentence = str(error)
            if '\n' in sentence.strip() or str(path) not in sentence:
                let_through.append((number, sentence))
        except Exception as error:
            let_through.append((number, repr(error)))
        else:
            outcomes['read'] += 1
    return outcomes, let_through


@pytest.mark.parametrize(
    ('suffix', 'channels', 'dtype'), PICTURES, ids=lambda value: getattr(value, '__name__', None)
)
def test_pictures(figure, tmp_path, suffix, channels, dtype):
    rng = np.random.default_rng(len(suffix) + channels)
    shape = (40, 50, channels) if channels else (40, 50)
    smooth = cv2.resize(rng.integers(0, np.iinfo(dtype).max, (5, 6), dtype), shape[1::-1])
    image = np.repeat(smooth[..., None], channels, 2) if channels else smooth
    path = tmp_path / f'x{suffix}'
    write_image(path, image)
    whole = path.read_bytes()
    contents = [damaged(whole, rng) for _ in range(500)]
    readers = (read_image, lambda path: read_image(path, keep=True), read_upright)
    turn = iter(range(len(contents)))
    outcomes, let_through = count(
        path, contents, lambda path: readers[next(turn) % 3](path), ValueError
    )
    figure('damaged pictures', len(contents), len(contents) - len(let_through))
    assert not let_through
    assert outcomes['refused'] > 100


@pytest.mark.parametrize('suffix', CODECS)
def test_videos(figure, tmp_path, suffix):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 24, 32, 3), np.uint8)
    with VideoWriter(tmp_path / f'x{suffix}', 10) as writer:
        for frame in frames:
            writer.write(frame)
    path = tmp_path / f'x{suffix}'
    contents = [damaged(path.read_bytes(), rng) for _ in range(150)]

    def read(path):
        video = Video(path)
        assert 0 < video.rate < float('inf'), video.rate
        for frame in video:
            assert frame.ndim == 3

    outcomes, let_through = count(path, contents, read, ValueError)
    figure('damaged videos', len(contents), len(contents) - len(let_through))
    assert not let_through
    assert outcomes['refused'] > 20
