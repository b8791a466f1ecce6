"""Reading and writing videos frame by frame, RGB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

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

    Args:
        path (str | Path): The file.
        rate (float): Frames per second.
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame ``(H, W, 3)`` uint8; all have one size.

        Raises:
            ValueError: If this OpenCV cannot write such a file.
        """
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
            size = (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(str(self.path), codec, self.rate, size)
            if not self._writer.isOpened():
                raise ValueError(
                    f'{self.path} cannot be written: this OpenCV lacks its codec; use frames.'
                )
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def close(self) -> list[Path]:
        """Finish the file; none was made if there was no frame.

        Returns:
            list[Path]: The file, if there is one.
        """
        if self._writer is None:
            return []
        self._writer.release()
        return [self.path]
