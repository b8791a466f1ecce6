"""The frameworks a config can be written for."""

from importlib import import_module

from mmengine.config import Config

from ..utils.cli import UserError
from ..utils.requirements import require

SCOPES = ('mmdet', 'mmseg', 'mmpretrain', 'mmeffvit')


def activate_scope(cfg: Config) -> str:
    """Import the framework that ``cfg`` is written for.

    Args:
        cfg (Config): Its ``default_scope`` is one of ``SCOPES``.

    Returns:
        str: The scope.

    Raises:
        UserError: If the scope is unknown.
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
    return scope
