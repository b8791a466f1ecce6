"""Denoising files: what is unreadable is noted by name, the rest is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from .inference import Denoiser
from .io import SUFFIXES, list_images, read_image, write_image

#: Containers that are read and written, with the codec they are written in.
VIDEO_CODECS = {'.mp4': 'mp4v', '.mov': 'mp4v', '.avi': 'FFV1', '.mkv': 'FFV1'}


@dataclass
class Report:
    """What became of the files.

    Attributes:
        written (list[Path]): Results.
        failed (list[tuple[Path, str]]): Sources that could not be denoised, and why.
    """

    written: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def denoise_path(
    denoiser: Denoiser,
    source: str | Path,
    out: str | Path,
    side_by_side: bool = False,
    track: Callable[..., Iterable] | None = None,
) -> Report:
    """Denoise an image, a folder of images or frames, or a video.

    Images keep name, place below the folder, type and bit depth. For a network that takes clips,
    the images of each folder are the frames of one clip, in order of their names. Videos become
    videos of the same name (``.mp4`` and ``.mov`` lossy, ``.avi`` and ``.mkv`` lossless).

    Args:
        denoiser (Denoiser): The model.
        source (str | Path): What to denoise.
        out (str | Path): Folder for the results; it must not be the source's.
        side_by_side (bool): Also write noisy and denoised beside each other, below
            ``out/side_by_side``.
        track (Callable, optional): ``track(iterable, description=…, total=…)`` shows progress, as
            ``rich.progress.track`` does.

    Returns:
        Report: Files written and sources that failed.

    Raises:
        ValueError: If there is nothing to denoise, or the results would replace the source.
    """
    source, out = Path(source), Path(out)
    root = source if source.is_dir() else source.parent
    if out.resolve() == root.resolve():
        raise ValueError(f'{out} is the folder of the source; results need another one.')
    report = Report()
    if source.suffix.lower() in VIDEO_CODECS and source.is_file():
        steps = _video_steps(denoiser, source, out, side_by_side, report)
        total = _frame_count(source)
    else:
        images = _images(source, out)
        steps = _image_steps(denoiser, images, root, out, side_by_side, report)
        total = len(images)
    if track is not None:
        steps = track(steps, description=f'denoise {source.name}', total=total)
    for _ in steps:
        pass
    return report


def _images(source: Path, out: Path) -> list[Path]:
    if not source.exists():
        raise ValueError(f'There is nothing at {source}.')
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            known = ' '.join((*SUFFIXES, *VIDEO_CODECS))
            raise ValueError(f'{source} is no image or video by its suffix; known are {known}.')
        return [source]
    # Results of an earlier run may lie below the source.
    images = [path for path in list_images(source) if out.resolve() not in path.resolve().parents]
    if not images:
        raise ValueError(f'{source} holds no image ({" ".join(SUFFIXES)}).')
    return images


def _image_steps(
    denoiser: Denoiser,
    images: list[Path],
    root: Path,
    out: Path,
    side_by_side: bool,
    report: Report,
) -> Iterator[None]:
    """Denoise images one by one, or as one clip per folder, yielding once per image."""
    takes_clips = denoiser.model.backbone.num_frames is not None
    groups: dict[Path, list[Path]] = {}
    for path in images:
        groups.setdefault(path.parent if takes_clips else path, []).append(path)
    for paths in groups.values():
        readable: list[tuple[Path, np.ndarray]] = []
        frames = _readable(paths, readable, report)
        for result in denoiser.clip(frames):
            path, noisy = readable.pop(0)
            target = out / path.relative_to(root)
            _write(target, result, report)
            if side_by_side:
                _write(out / 'side_by_side' / path.relative_to(root), beside(noisy, result), report)
            yield
        for path in paths:
            if any(path == failed for failed, _ in report.failed):
                yield


def _readable(
    paths: list[Path], kept: list[tuple[Path, np.ndarray]], report: Report
) -> Iterator[np.ndarray]:
    """Read what can be read and has the size of what was read first."""
    shape = None
    for path in paths:
        try:
            image = read_image(path, keep=True)
        except ValueError as error:
            report.failed.append((path, str(error)))
            continue
        shape = image.shape if shape is None else shape
        if image.shape != shape:
            reason = f'{path} is {image.shape}, other frames of its clip are {shape}.'
            report.failed.append((path, reason))
            continue
        kept.append((path, image))
        yield image


def _write(path: Path, image: np.ndarray, report: Report) -> None:
    write_image(path, image)
    report.written.append(path)


def _video_steps(
    denoiser: Denoiser, source: Path, out: Path, side_by_side: bool, report: Report
) -> Iterator[None]:
    """Denoise a video frame by frame, yielding once per frame."""
    capture = cv2.VideoCapture(str(source))
    count, rate = _frame_count(source), capture.get(cv2.CAP_PROP_FPS) or 25.0
    pending: list[np.ndarray] = []

    def frames() -> Iterator[np.ndarray]:
        while True:
            found, frame = capture.read()
            if not found:
                return
            pending.append(np.ascontiguousarray(frame[..., ::-1]))
            yield pending[-1]

    targets = [out / source.name]
    if side_by_side:
        targets.append(out / 'side_by_side' / source.name)
    writers: list[cv2.VideoWriter] = []
    done = 0
    for result in denoiser.clip(frames()):
        pictures = [result, beside(pending.pop(0), result)][: len(targets)]
        if not writers:
            writers = [_writer(t, rate, p.shape) for t, p in zip(targets, pictures)]
            report.written.extend(targets)
        for writer, picture in zip(writers, pictures):
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
        done += 1
        yield
    capture.release()
    for writer in writers:
        writer.release()
    if done == 0 or done < count:
        reason = f'{source} cannot be read to its end: {done} of {max(count, 0)} frames.'
        report.failed.append((source, reason))


def _writer(path: Path, rate: float, shape: tuple[int, ...]) -> cv2.VideoWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter_fourcc(*VIDEO_CODECS[path.suffix.lower()])
    writer = cv2.VideoWriter(str(path), codec, rate, (shape[1], shape[0]))
    if not writer.isOpened():
        raise ValueError(f'{path} cannot be written: this OpenCV lacks its codec; use frames.')
    return writer


def _frame_count(video: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count


def beside(noisy: np.ndarray, denoised: np.ndarray) -> np.ndarray:
    """Both images next to each other, a white line between them."""
    line = np.full_like(noisy[:, :2], np.iinfo(noisy.dtype).max)
    return np.concatenate([noisy, line, denoised], axis=1)
