"""Options of ``tools/test.py``, applied to a config of each framework."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from mmengine.config import Config, ConfigDict

from ..utils.atomic import atomic
from .errors import UserError

PICKLES = ('.pkl', '.pickle')
_FLIPS = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
_DET_META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip')


def enable_visualization(
    cfg: Config, scope: str, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Draw predictions on the screen or into a folder.

    Args:
        cfg (Config): Changed in place.
        scope (str): Its framework.
        show (bool): Open a window per image.
        show_dir (str, optional): Folder that receives the drawings.
        wait_time (float): Seconds a window stays open.

    Raises:
        UserError: If the config has no visualization hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError(
            '--show and --show-dir need default_hooks.visualization, which this config lacks.'
        )
    hook.update(show=show, wait_time=wait_time)
    hook['enable' if scope == 'mmpretrain' else 'draw'] = True
    if show_dir is None:
        return
    if scope == 'mmdet':
        hook['test_out_dir'] = show_dir
    elif scope == 'mmpretrain':
        hook['out_dir'] = show_dir
    else:
        cfg.visualizer.save_dir = show_dir


def enable_tta(cfg: Config, scope: str) -> None:
    """Test with augmentation: that of the config, by default both horizontal flips.

    Raises:
        UserError: If the config has none and the framework knows no default.
    """
    if 'tta_model' not in cfg:
        if scope == 'mmdet':
            nms = dict(type='nms', iou_threshold=0.5)
            cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
        elif scope == 'mmpretrain':
            cfg.tta_model = dict(type='AverageClsScoreTTA')
        else:
            raise UserError('--tta needs tta_model in the config: describe the augmentation there.')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'tta_pipeline' not in cfg:
        if scope not in ('mmdet', 'mmpretrain'):
            raise UserError('--tta needs tta_pipeline in the config: describe the views there.')
        pipeline = deepcopy(dataset.pipeline)
        pack = pipeline.pop()
        if scope == 'mmdet':
            pack['meta_keys'] = (*_DET_META, 'flip_direction')
        else:
            pack.setdefault('meta_keys', ('sample_idx', 'img_path', 'ori_shape', 'img_shape'))
        views = dict(type='TestTimeAug', transforms=[_FLIPS, [pack]])
        cfg.tta_pipeline = [*pipeline, views]
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


@contextmanager
def whole_predictions(out: str | None) -> Iterator[str | None]:
    """Give the file for :func:`save_predictions`, which becomes ``out`` when the test has ended."""
    if out is None or not out.endswith(PICKLES):  # a folder of label maps
        yield out
        return
    with atomic(out, optional=True) as partial:  # one process of several writes it
        yield str(partial)


def save_predictions(cfg: Config, scope: str, out: str) -> None:
    """Save the predictions: a pickle file, for mmseg a folder of label maps.

    Raises:
        UserError: If the suffix of ``out`` does not fit.
    """
    evaluators = cfg.test_evaluator
    if scope == 'mmseg':
        metric = evaluators[0] if isinstance(evaluators, list) else evaluators
        metric.update(output_dir=out, keep_results=True)
        return
    if not out.endswith(PICKLES):
        raise UserError(f'--out {out}: the file must end in .pkl or .pickle.')
    dump = dict(type='DumpDetResults' if scope == 'mmdet' else 'DumpResults', out_file_path=out)
    listed = evaluators if isinstance(evaluators, list) else [evaluators]
    cfg.test_evaluator = [*listed, dump]
