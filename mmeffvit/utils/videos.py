"""Reading and writing videos frame by frame, RGB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from .atomic import atomic

#: Containers that are read and written, with the codec they are written in.
CODECS = {'.mp4': 'mp4v', '.mov': 'mp4v', '.avi': 'FFV1', '.mkv': 'FFV1'}


def is_video(path: str | Path) -> bool:
    """Whether a file is a video by its suffix."""
    return Path(path).suffix.lower() in CODECS


class Video:
    """The frames of a video, ``(H, W, 3)`` uint8.

    Args:
        path (str | Path): The file.

    Attributes:
        rate (float): Frames per second; 25 if the file does not say.
        count (int): Frames that the file claims to have.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        capture = cv2.VideoCapture(str(path))
        self.rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        capture.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read from the start.

        Raises:
            ValueError: At the end, if frames are missing; the message names the file.
        """
        capture = cv2.VideoCapture(str(self.path))
        done = 0
        try:
            while (read := capture.read())[0]:
                yield np.ascontiguousarray(read[1][..., ::-1])
                done += 1
        finally:
            capture.release()
        if done == 0 or done < self.count:
            raise ValueError(
                f'{self.path} cannot be read to its end: {done} of {self.count} frames.'
            )


class VideoWriter:
    """Write a video, lossy for ``.mp4`` and ``.mov``, lossless for ``.avi`` and ``.mkv``.

    The file appears when the ``with`` block ends and every frame can be read back from it; it does
    not if the block raises, or if there was no frame.

    Args:
        path (str | Path): The file.
        rate (float): Frames per second.

    Example:
        >>> with VideoWriter('out.mp4', 25) as writer:
        ...     writer.write(frame)
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        self.count = 0
        self._shape: tuple[int, ...] = ()
        self._writer: cv2.VideoWriter | None = None
        self._stack = ExitStack()

    @property
    def written(self) -> list[Path]:
        """The file, if there was a frame."""
        return [self.path] if self.count else []

    def write(self, frame: np.ndarray) -> None:
        """Append a frame ``(H, W, 3)`` uint8; all have one size.

        Raises:
            ValueError: If this OpenCV cannot write such a file, or the frame has another size.
        """
        if self._writer is None:
            self._partial = self._stack.enter_context(atomic(self.path))
            codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
            self._shape = frame.shape
            size = (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(str(self._partial), codec, self.rate, size)
            if not self._writer.isOpened():
                raise ValueError(
                    f'{self.path} cannot be written: this OpenCV lacks its codec; use frames.'
                )
        if frame.shape != self._shape:
            raise ValueError(f'{self.path} has frames of {self._shape}, not {frame.shape}.')
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))
        self.count += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *raised) -> None:
        """Finish the file.

        Raises:
            OSError: If frames are missing from it, on a full disk for one.
        """
        # What leaves the stack with an exception is removed, else renamed.
        with self._stack:
            if self._writer is not None:
                self._writer.release()
            if raised[0] is not None:
                raise raised[1]
            if self.count:
                found = _count_frames(self._partial)
                if found != self.count:
                    raise OSError(
                        f'{self.path} cannot be written: {found} of {self.count} frames are in it; '
                        'is the disk full?'
                    )


def _count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count
