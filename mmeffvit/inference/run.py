from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

from ..utils.images import read_profile, read_upright, write_image
from ..utils.inputs import Inputs, Report
from ..utils.videos import Video, VideoWriter, is_video
from .predictors import Detector, Predictor, build_predictor


def infer(
    config: Config,
    checkpoint: str | Path,
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    device: str = 'cpu',
    score_threshold: float | None = None,
    save_predictions: bool = False,
    ids_from: str | Path | None = None,
    track: Callable[..., Iterable] | None = None,
) -> Report:
    """Run a trained model on images and videos; unreadable files are reported and skipped.

    Detectors, segmentors and classifiers write drawn predictions below ``out/vis`` and, on
    request, predictions below ``out/preds``: ``predictions.json`` in COCO's format or with the
    scores of the classes, or a PNG of class indices per image. Denoisers write denoised files,
    see :func:`~mmeffvit.denoising.denoise_path`.

    Args:
        config (Config): Of any task.
        checkpoint (str | Path): Its weights; only tensors and training state are read.
        sources (Sequence[str | Path]): See :class:`~mmeffvit.utils.inputs.Inputs`.
        out (str | Path): Folder for the results.
        device (str): Where to run.
        score_threshold (float, optional): Detections below it are not drawn, 0.3 by default.
        save_predictions (bool): Also write predictions.
        ids_from (str | Path, optional): COCO file whose ids of images and categories the saved
            predictions of a detector take; images are found by ``file_name``.
        track (Callable, optional): ``track(iterable, description=…, total=…)`` shows progress, as
            ``rich.progress.track`` does.

    Returns:
        Report: Files written and sources that failed.

    Raises:
        ValueError: If there is nothing to read, the results would replace the sources, or the
            config or the checkpoint cannot be used.
    """
    inputs = Inputs(sources, out)
    if config.get('default_scope') == 'mmeffvit':
        from ..denoising import Denoiser, denoise_path

        if save_predictions or ids_from or score_threshold is not None:
            raise ValueError(
                'The config is of a denoiser, which predicts pictures: leave out save_predictions '
                '(--save-predictions) and score_threshold (--score-thr).'
            )
        denoiser = Denoiser.from_config(config, checkpoint, device)
        return denoise_path(denoiser, sources, out, track=track)
    predictor = build_predictor(
        config, checkpoint, device, 0.3 if score_threshold is None else score_threshold
    )
    if ids_from is not None:
        if not (isinstance(predictor, Detector) and save_predictions):
            raise ValueError('ids_from (--ids-from) needs a detector and --save-predictions.')
        predictor.take_ids(ids_from, [inputs.place(path).as_posix() for path in inputs.files])
    report = inputs.report()
    preds = Path(out, 'preds') if save_predictions else None
    steps = _steps(predictor, inputs, Path(out, 'vis'), preds, report)
    if track is not None:
        steps = track(steps, description='infer', total=inputs.count_steps())
    for _ in steps:
        pass
    if preds is not None:
        report.written.extend(predictor.finish(preds))
    return report


def _steps(
    predictor: Predictor, inputs: Inputs, vis: Path, preds: Path | None, report: Report
) -> Iterator[None]:
    """Predict, draw and keep, yielding once per image or frame."""

    def predict(image, source: Path, frame: int | None = None):
        sample, drawn = predictor(image)
        if preds is not None:
            report.written.extend(predictor.keep(sample, source.as_posix(), frame, preds))
        return drawn

    for path in inputs.files:
        place = inputs.place(path)
        target = vis / place
        try:
            if is_video(path):
                with VideoWriter(target, Video(path).rate) as writer:
                    for frame, image in enumerate(report.frames(path)):
                        writer.write(predict(image, place, frame))
                        yield
                report.written.extend(writer.written)
            else:
                write_image(target, predict(read_upright(path), place), read_profile(path))
                report.written.append(target)
                yield
        except OSError:  # of writing: a full disk stops the run
            raise
        except Exception as error:  # also of a model that such an image does not suit
            report.fail(path, error)
            yield
