"""Denoising of image files, folders and videos; unreadable files are reported and skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...utils.images import read_image, read_profile, write_image
from ...utils.inputs import Inputs, Report
from ...utils.videos import Video, VideoWriter, is_video
from .denoiser import Denoiser


def denoise_path(
    denoiser: Denoiser,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    side_by_side: bool = False,
    track: Callable[..., Iterable] | None = None,
) -> Report:
    """Denoise images, folders of images or frames, and videos.

    Images keep name, place below the folder, type and bit depth. For a network that takes clips,
    the images of each folder are the frames of one clip, in order of their names. Videos become
    videos of the same name (``.mp4`` and ``.mov`` lossy, ``.avi`` and ``.mkv`` lossless).

    Args:
        denoiser (Denoiser): The model.
        source (str | Path | Sequence[str | Path]): What to denoise; see
            :class:`~mmeffvit.utils.inputs.Inputs`.
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
    inputs = Inputs([source] if isinstance(source, (str, Path)) else source, out)
    folders = [Path(out), Path(out, 'side_by_side')][: 1 + side_by_side]
    report = inputs.report()
    steps = _steps(denoiser, inputs, folders, report)
    if track is not None:
        steps = track(steps, description='denoise', total=inputs.count_steps())
    for _ in steps:
        pass
    return report


def _steps(
    denoiser: Denoiser, inputs: Inputs, folders: list[Path], report: Report
) -> Iterator[None]:
    """Denoise videos, images one by one, or one clip per folder, yielding once per picture."""
    takes_clips = denoiser.model.backbone.num_frames is not None
    groups: dict[Path, dict[Path, list[Path]]] = {}
    for path in inputs.files:
        is_frame = takes_clips and not is_video(path)
        targets = [folder / inputs.place(path) for folder in folders]
        groups.setdefault(path.parent if is_frame else path, {})[path] = targets
    for source, targets in groups.items():
        try:
            if is_video(source) and source in targets:
                yield from _video_steps(denoiser, source, targets[source], report)
            else:
                yield from _image_steps(denoiser, targets, report)
        except OSError:  # of writing: a full disk stops the run
            raise
        except Exception as error:
            report.fail(source, error)


def _image_steps(
    denoiser: Denoiser, targets: dict[Path, list[Path]], report: Report
) -> Iterator[None]:
    """Denoise the frames of one clip, yielding once per image."""
    readable: list[tuple[Path, np.ndarray]] = []
    done = 0
    for result in denoiser.clip(_readable(targets, readable, report)):
        path, noisy = readable.pop(0)
        for target, picture in zip(targets[path], (result, beside(noisy, result))):
            try:
                write_image(target, picture, read_profile(path))
            except ValueError as error:
                report.failed.append((path, str(error)))
            else:
                report.written.append(target)
        done += 1
        yield
    yield from [None] * (len(targets) - done)  # those that could not be read


def _readable(
    paths: Iterable[Path], kept: list[tuple[Path, np.ndarray]], report: Report
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


def _video_steps(
    denoiser: Denoiser, source: Path, targets: list[Path], report: Report
) -> Iterator[None]:
    """Denoise a video frame by frame, yielding once per frame."""
    pending: list[np.ndarray] = []

    def frames() -> Iterator[np.ndarray]:
        for frame in report.frames(source):
            pending.append(frame)
            yield frame

    with ExitStack() as stack:
        rate = Video(source).rate
        writers = [stack.enter_context(VideoWriter(target, rate)) for target in targets]
        for result in denoiser.clip(frames()):
            for writer, picture in zip(writers, (result, beside(pending.pop(0), result))):
                writer.write(picture)
            yield
    for writer in writers:
        report.written.extend(writer.written)


def beside(noisy: np.ndarray, denoised: np.ndarray) -> np.ndarray:
    """Both images next to each other, a white line between them."""
    line = np.full_like(noisy[:, :2], np.iinfo(noisy.dtype).max)
    return np.concatenate([noisy, line, denoised], axis=1)
