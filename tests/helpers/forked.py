"""Work in forked processes, which start at once and may run out of disk."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Processes are forked from one that has imported this, and not yet used a thread.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['mmeffvit.checkpoints', 'mmeffvit.utils.videos'])


def write_limited(write: Callable[[Path], None], path: Path, limit: int, answer: Any) -> None:
    """Write a file where none may be larger than ``limit`` bytes, as on a disk that is full.

    Args:
        write (Callable): Writes a file at a path.
        path (Path): Where.
        limit (int): Bytes.
        answer (Connection): Gets the type and the message of what was raised, or None.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write(path)
    except Exception as error:
        answer.send((type(error).__name__, str(error)))
    else:
        answer.send(None)


def write_picture(path: Path) -> None:
    """Noise, which no codec makes small."""
    import numpy as np

    from mmeffvit.utils.images import write_image

    write_image(path, np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8))


def write_video(path: Path) -> None:
    """Frames of noise."""
    import numpy as np

    from mmeffvit.utils.videos import VideoWriter

    with VideoWriter(path, 10) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8):
            writer.write(frame)


def write_predictions(path: Path) -> None:
    """A JSON file."""
    from mmeffvit.utils.atomic import write_json

    write_json(path, list(range(50000)))


def write_converted(path: Path) -> None:
    """Weights, as ``tools/convert_checkpoint.py`` does."""
    import torch

    from mmeffvit.checkpoints import write_weights

    write_weights(dict(weight=torch.zeros(50000)), path, {})


def write_training_state(path: Path) -> None:
    """A checkpoint of a run."""
    import torch

    from mmeffvit.checkpoints.write import save_checkpoint

    save_checkpoint(dict(state_dict=dict(weight=torch.zeros(50000))), path)


def write_plot(path: Path) -> None:
    """A figure, as ``tools/visualization/attention.py`` does."""
    import numpy as np
    from matplotlib.figure import Figure

    from mmeffvit.utils.atomic import atomic

    figure = Figure()
    figure.add_subplot().imshow(np.random.default_rng(0).random((300, 300)))
    with atomic(path) as partial:
        figure.savefig(partial, dpi=120)
