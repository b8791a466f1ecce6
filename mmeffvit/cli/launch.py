"""Options, config, process group and runner shared by ``tools/train.py`` and ``tools/test.py``."""

import argparse
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed, nn

from ..utils.atomic import atomic
from ..utils.config import read_config
from .data_paths import check_settings, move_data_root
from .errors import UserError
from .options import output_folder

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')

_LAUNCHED_BY = {
    'pytorch': ('RANK', 'tools/dist_train.sh or tools/dist_test.sh'),
    'slurm': ('SLURM_PROCID', 'tools/slurm_train.sh'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'mpirun'),
}


class OptionsAction(DictAction):
    """``--cfg-options key=value …``; anything else is a usage error."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse ``values`` into a dict."""
        text = ' '.join(map(str, values or ()))
        try:
            super().__call__(parser, namespace, values, option_string)
            if not all(part for key in getattr(namespace, self.dest) for part in key.split('.')):
                raise ValueError
        except (ValueError, AssertionError):
            parser.error(f'{option_string} takes key=value pairs with balanced brackets: {text}')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in common."""
    parser.add_argument(
        '--work-dir', type=output_folder, help='where logs, checkpoints and results go'
    )
    parser.add_argument(
        '--data-root',
        metavar='PATH',
        help="read all data from PATH instead of the config's data root",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='override settings of the config, for example optim_wrapper.optimizer.lr=1e-3 or '
        'key="[a,b]", without white space',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='job launcher')
    # torch.distributed.launch passes --local-rank, older versions --local_rank.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that ``args`` name and apply the common options.

    Args:
        args (argparse.Namespace): ``config`` and the options of ``add_common_arguments``.

    Returns:
        Config: With ``work_dir`` and ``launcher`` set.

    Raises:
        UserError: If the config is missing, or an option does not fit.
        ImportError: If it inherits from a framework that is not installed.
    """
    cfg = read_config(args.config)
    options = dict(args.cfg_options or {})
    # Overriding this variable would change nothing: mmengine has filled it in already.
    check_settings(cfg)
    root = args.data_root or options.pop('data_root', None)
    if root:
        move_data_root(cfg, root)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, IndexError, TypeError, AssertionError) as error:
        raise UserError(f'--cfg-options do not fit {args.config}: {error}.') from error
    if args.work_dir:
        cfg.work_dir = str(args.work_dir)
    elif not cfg.get('work_dir'):
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    try:
        output_folder(str(cfg.work_dir))
    except argparse.ArgumentTypeError as error:
        raise UserError(f'work_dir={error}.') from None
    check_settings(cfg)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


@contextmanager
def process_group(cfg: Config) -> Iterator[None]:
    """Set up and tear down the process group of ``cfg.launcher``, with or without an accelerator.

    mmengine's launchers always select a CUDA device. Without one, the gloo group is made here and
    the model is wrapped without device ids.

    Args:
        cfg (Config): Its ``model_wrapper_cfg`` is set if the processes run on CPUs.

    Raises:
        UserError: If the launcher did not start this process.
    """
    if cfg.launcher != 'none':
        variable, script = _LAUNCHED_BY[cfg.launcher]
        if variable not in os.environ:
            raise UserError(
                f'--launcher {cfg.launcher} without its environment ({variable} is not set): '
                f'start through {script}.'
            )
        if cfg.launcher == 'pytorch' and get_device() == 'cpu':
            distributed.init_process_group('gloo')
            wrapper: dict[str, Any] = dict(
                type='MMDistributedDataParallel',
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False),
            )
            wrapper.update(cfg.get('model_wrapper_cfg', {}), device_ids=None)
            cfg.model_wrapper_cfg = wrapper
    yield
    # A group that is left to the interpreter's shutdown may abort the process; a sharded model,
    # which a runner's reference cycles keep alive, has it as well.
    if distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def build_runner(cfg: Config, notes: Sequence[str] = ()) -> Runner:
    """Build the runner of a config: its ``runner_type`` if it has one, else mmengine's.

    Args:
        cfg (Config): The config.
        notes (Sequence[str]): First lines of the log of mmengine's own runner, which starts with
            hundreds of lines of environment and config.
    """
    if 'runner_type' in cfg:
        return RUNNERS.build(cast(dict, cfg))

    class NotedRunner(Runner):
        def _log_env(self, env_cfg: dict) -> None:
            for note in notes:
                self.logger.info(note)
            super()._log_env(env_cfg)

        @master_only
        def dump_config(self) -> None:
            name = Path(self.cfg.filename or f'{self.timestamp}.py').name
            with atomic(Path(self.work_dir, name)) as partial:
                self.cfg.dump(partial)

        def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
            if get_device() == 'cpu':  # SyncBN has no CPU implementation
                model = revert_sync_batchnorm(model)
            return super().wrap_model(model_wrapper_cfg, model)

    return NotedRunner.from_cfg(cfg)
