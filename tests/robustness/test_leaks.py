"""Readers and writers, used over and over: memory, open files and threads do not grow."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.damage import damaged
from mmeffvit.checkpoints import CheckpointError, read_checkpoint, write_weights
from mmeffvit.utils.images import read_image, read_upright, write_image
from mmeffvit.utils.videos import Video, VideoWriter

pytestmark = pytest.mark.slow

#: Bytes that may be added per use; a leaked picture or tensor of these tests is larger.
SPARE = 2000
SIZE = (64, 80)


def picture(folder: Path) -> None:
    """Write a picture and read it in both ways."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    write_image(folder / 'a.png', image)
    read_image(folder / 'a.png')
    read_upright(folder / 'a.png')


def damaged_picture(folder: Path) -> None:
    """Read what cannot be read."""
    path = folder / 'b.png'
    write_image(path, np.zeros((*SIZE, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError):
        read_image(path)


def video(folder: Path) -> None:
    """Write a video and read it, to its end and not."""
    with VideoWriter(folder / 'a.avi', 5) as writer:
        for _ in range(2):
            writer.write(np.zeros((*SIZE, 3), np.uint8))
    list(Video(folder / 'a.avi'))
    next(iter(Video(folder / 'a.avi')))


def checkpoint(folder: Path) -> None:
    """Write weights in both formats and read them."""
    for suffix in ('.pth', '.safetensors'):
        write_weights(dict(weight=torch.zeros(5000)), folder / f'a{suffix}', {})
        read_checkpoint(folder / f'a{suffix}')


def damaged_checkpoint(folder: Path) -> None:
    """Read weights that are cut."""
    write_weights(dict(weight=torch.zeros(5000)), folder / 'b.pth', {})
    content = (folder / 'b.pth').read_bytes()
    (folder / 'b.pth').write_bytes(damaged(content[:-300], np.random.default_rng(0)))
    with pytest.raises(CheckpointError):
        read_checkpoint(folder / 'b.pth')


def usage() -> tuple[int, int, int]:
    """Bytes of memory, open files, threads of this process."""
    gc.collect()
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return (
        pages * os.sysconf('SC_PAGE_SIZE'),
        len(os.listdir('/proc/self/fd')),
        len(os.listdir('/proc/self/task')) + threading.active_count(),
    )


@pytest.mark.parametrize('use', [picture, damaged_picture, video, checkpoint, damaged_checkpoint])
def test_nothing_is_kept(figure, tmp_path, use):
    times = 100
    for _ in range(times):  # allocators take what they need once
        use(tmp_path)
    before = usage()
    for _ in range(times):
        use(tmp_path)
    after = usage()
    grown = (after[0] - before[0]) / times
    held = grown < SPARE and after[1:] == before[1:]
    figure('readers and writers that keep nothing', 1, held)
    assert held, (grown, before, after)
