"""The frameworks a config can be written for."""

from importlib import import_module

from mmengine.config import Config
from mmengine.device import get_device

from ..utils.cli import UserError
from ..utils.device import mmcv_has_cuda
from ..utils.requirements import require

SCOPES = ('mmdet', 'mmseg', 'mmpretrain', 'mmeffvit')


def activate_scope(cfg: Config) -> str:
    """Import the framework that ``cfg`` is written for.

    Args:
        cfg (Config): Its ``default_scope`` is one of ``SCOPES``.

    Returns:
        str: The scope.

    Raises:
        UserError: If the scope is unknown, or a detector would meet a GPU that mmcv cannot use.
        ImportError: If its framework cannot be imported.
    """
    scope = cfg.get('default_scope')
    if scope not in SCOPES:
        raise UserError(
            f'default_scope={scope!r} of the config is unknown: set it to one of '
            f'{", ".join(SCOPES)}.'
        )
    require(scope)
    import_module(scope)
    if scope == 'mmdet' and get_device() == 'cuda' and not mmcv_has_cuda():
        raise UserError(
            'there is a GPU, but mmcv has no CUDA operators and detectors need them: build it '
            "again with nvcc, or hide the GPU by CUDA_VISIBLE_DEVICES=''."
        )
    return scope
