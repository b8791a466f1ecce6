"""Options of ``tools/train.py``, applied to a config."""

from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import PretrainedInit
from mmengine.registry import OPTIMIZERS
from torch import nn

from ..checkpoints import Weights, read_checkpoint, read_weights
from ..checkpoints.download import is_set
from ..checkpoints.index import SCHEME, WORD
from ..checkpoints.latest import find_latest_checkpoint
from ..checkpoints.load import LOGGER, fill, insist
from ..models import build_model
from .errors import UserError
from .explain import unregistered


def enable_amp(cfg: Config) -> None:
    """Train with automatic mixed precision.

    Raises:
        UserError: If there is no accelerator, or the config sets another optimizer wrapper.
    """
    if get_device() == 'cpu':
        raise UserError('--amp needs an accelerator and none is visible: train without it.')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp does not work with optim_wrapper.type={kind!r} of the config.')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def check_optimizer(cfg: Config) -> None:
    """Check that there is an optimizer, and that it can run here.

    Raises:
        UserError: If there is none, or it uses mixed precision without an accelerator.
    """
    wrapper = cfg.get('optim_wrapper')
    if wrapper is None:
        raise UserError(f'{cfg.filename} has no optim_wrapper: set it to train.')
    if str(wrapper.get('type')).endswith('AmpOptimWrapper') and get_device() == 'cpu':
        raise UserError(
            'AmpOptimWrapper of the config needs an accelerator and none is visible: train with '
            '--cfg-options optim_wrapper.type=OptimWrapper.'
        )
    optimizer = wrapper.get('optimizer')
    if not isinstance(optimizer, dict):
        raise UserError(f'optim_wrapper.optimizer={optimizer!r} of the config must be a dict.')
    kind = optimizer.get('type')
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        raise UserError(unregistered(kind, OPTIMIZERS))


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the actual batch size over that of the config.

    Raises:
        UserError: If the config does not state the batch size of its learning rate.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError(
            '--auto-scale-lr needs the batch size the learning rate is for: '
            '--cfg-options auto_scale_lr.base_batch_size=16.'
        )
    cfg.auto_scale_lr.enable = True


def set_seed(cfg: Config, seed: int) -> None:
    """Set the seed, keeping the other settings of ``randomness``."""
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def enable_resume(cfg: Config, checkpoint: str) -> Weights | None:
    """Resume a run from a checkpoint.

    mmengine restores weights, optimizer, schedule, averaged weights and counters, but draws a new
    random seed for the data order if the config has none. The seed of the first run is restored
    here.

    Args:
        cfg (Config): Its ``work_dir`` is set.
        checkpoint (str): A path or URL, or ``'auto'`` for the newest checkpoint of the work
            directory that can be read, if there is any.

    Returns:
        Weights | None: Those of the checkpoint, None if the run starts anew or they are sharded.

    Raises:
        UserError: If the checkpoint is missing, damaged, or is no training checkpoint.
    """
    refuse_published(checkpoint)
    path = find_latest_checkpoint(cfg.work_dir) if checkpoint == 'auto' else checkpoint
    cfg.resume = path is not None
    if path is None:  # the run starts as it did the first time
        if any(Path(cfg.work_dir).glob('*.pth')):
            raise UserError(
                f'{cfg.work_dir} has checkpoints, but none that a run can be resumed from: move '
                'them, or take another --work-dir.'
            )
        LOGGER.info('%s has no checkpoint: the run starts anew.', cfg.work_dir)
        return None
    cfg.load_from = path
    if Path(path).is_dir():
        return None
    loaded = read_checkpoint(path)
    if not (isinstance(loaded, dict) and {'optimizer', 'meta', 'state_dict'} <= loaded.keys()):
        raise UserError(
            f'{path} holds no optimizer state and cannot be resumed: start from its weights with '
            f'--cfg-options load_from={path}.'
        )
    if cfg.get('randomness', {}).get('seed') is None and loaded['meta'].get('seed') is not None:
        set_seed(cfg, loaded['meta']['seed'])
    where = ', '.join(f'{k} {loaded["meta"][k]}' for k in ('epoch', 'iter') if k in loaded['meta'])
    LOGGER.info('resuming from %s (%s)', path, where)
    return Weights(loaded['state_dict'], path)


def refuse_published(checkpoint: str) -> None:
    """Refuse to resume from published weights, before they are downloaded.

    Raises:
        UserError: If ``checkpoint`` names some.
    """
    if checkpoint == WORD or checkpoint.startswith(SCHEME):
        address = checkpoint if checkpoint != WORD else f'{SCHEME}NAME'
        raise UserError(
            f'{checkpoint} cannot be resumed, for published weights have no optimizer state: start '
            f'from them with --cfg-options load_from={address}.'
        )


def start_from_scratch(cfg: Config, published_only: bool = False) -> list[str]:
    """Leave out the weights that a config starts from.

    Args:
        cfg (Config): Its model is changed in place.
        published_only (bool): Leave out published weights alone, ``mmeffvit://NAME``.

    Returns:
        list[str]: Addresses of what was left out.
    """
    left_out: list[str] = []

    def unwanted(init: object) -> bool:
        if not isinstance(init, dict) or init.get('type') not in ('Pretrained', PretrainedInit):
            return False
        checkpoint = str(init.get('checkpoint'))
        if published_only and not checkpoint.startswith(SCHEME):
            return False
        left_out.append(checkpoint)
        return True

    def visit(part: object) -> None:
        for child in part.values() if isinstance(part, dict) else part:  # type: ignore[union-attr]
            if isinstance(child, (dict, list, tuple)):
                visit(child)
        if not isinstance(part, dict):
            return
        init = part.get('init_cfg')
        if isinstance(init, (list, tuple)):
            part['init_cfg'] = [item for item in init if not unwanted(item)] or None
        elif unwanted(init):
            part['init_cfg'] = None
        name = part.get('pretrained')
        if isinstance(name, str) and (name.startswith(SCHEME) or not published_only):
            part['pretrained'] = None
            left_out.append(name)

    visit(cfg.model)
    return left_out


def choose_start(cfg: Config, from_scratch: bool) -> list[str]:
    """Leave out what the config starts from, where that is asked for or would be overwritten.

    Args:
        cfg (Config): Its model is changed in place.
        from_scratch (bool): Start from initial values. ``MMEFFVIT_FROM_SCRATCH=1`` in the
            environment leaves out published weights.

    Returns:
        list[str]: What was left out and why, for the log.

    Raises:
        UserError: If the run is to start from scratch and from weights.
    """
    if cfg.get('resume') and cfg.get('load_from'):
        start_from_scratch(cfg)  # every value is that of the checkpoint
        return []
    if from_scratch and cfg.get('load_from'):
        raise UserError(f'--from-scratch contradicts load_from={cfg.load_from}: leave one out.')
    if not from_scratch and not is_set('MMEFFVIT_FROM_SCRATCH'):
        return []
    reason = '--from-scratch' if from_scratch else 'MMEFFVIT_FROM_SCRATCH'
    left_out = start_from_scratch(cfg, published_only=not from_scratch)
    return [f'{address} is not loaded ({reason}).' for address in left_out]


def check_resumable(model: nn.Module, weights: Weights) -> str:
    """Check that the weights of a checkpoint are the model's, every one; returns what was found.

    Raises:
        UserError: Names what differs: the optimizer's state would not fit.
    """
    loaded = fill(model, weights, weights.source)
    if not loaded.is_exact:
        raise UserError(
            f'{weights.source} cannot be resumed, it is of another model: {loaded}; start from its '
            f'weights with --cfg-options load_from={weights.source}.'
        )
    return f'resumed: {loaded}.'


def enable_finite_loss(cfg: Config) -> None:
    """Stop the run where its loss is not finite, unless the config says how."""
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(str(hook.get('type')).endswith('FiniteLossHook') for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type='mmeffvit.FiniteLossHook')]


def preview_weights(cfg: Config, resumed: Weights | None = None) -> list[str]:
    """Fill a model as the run will, to say or refuse it before the run starts.

    Args:
        cfg (Config): Its ``load_from`` and ``init_cfg`` name the weights.
        resumed (Weights, optional): Those of a run that is resumed.

    Returns:
        list[str]: What is loaded from where and what keeps its initial values, one line per file.

    Raises:
        CheckpointError: If a file cannot be read, or is of another model.
        UserError: If ``resumed`` does not fit exactly.
    """
    model = build_model(cfg)
    if resumed is not None:
        return [check_resumable(model, resumed)]
    notes = []
    for module in model.modules():
        for init in _pretrained(module):
            weights = read_weights(init['checkpoint'])
            if init.get('prefix'):
                weights = weights.part(init['prefix'])
            notes.append(_account(module, weights))
    if cfg.get('load_from'):
        notes.append(_account(model, read_weights(cfg.load_from)))
    return notes or [f'No weights are loaded: {type(model).__name__} has its initial values.']


def _pretrained(module: nn.Module) -> list[dict]:
    init = getattr(module, 'init_cfg', None) or []
    inits = [init] if isinstance(init, dict) else init
    return [i for i in inits if i.get('type') in ('Pretrained', PretrainedInit)]


def _account(model: nn.Module, weights: Weights) -> str:
    loaded = fill(model, weights, weights.origin)
    insist(loaded)
    LOGGER.log(loaded.level, '%s.', loaded)
    return f'{loaded}.'
