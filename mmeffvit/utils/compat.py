"""Compatibility with the original and the maintained distributions of OpenMMLab."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mmengine.config import Config
from mmengine.config import utils as _config_utils

_PREFIX = 'mmeffvit::'
_CONFIGS = Path(__file__).parents[1] / '.mim' / 'configs'


def _has_distribution(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def enable_config_inheritance() -> None:
    """Make ``_base_ = 'mmseg::…'`` and ``_base_ = 'mmeffvit::…'`` resolvable.

    mmengine looks a ``package::path`` up through a fixed map from module to distribution.
    That map names the original ``mmsegmentation``, which is absent where a fork provides the
    module, and it does not know this package. Importing ``mmeffvit`` calls this once.

    mmengine would also look every type of an inherited config up in the scope of its package.
    The configs here are written for mmdet, mmseg or mmpretrain, so they are inherited as files,
    scope untouched; that way ``mmeffvit::retinanet_quadtree_b2_coco.py`` needs no folder either.
    """
    packages = _config_utils.MODULE2PACKAGE
    packages.setdefault('mmeffvit', 'mmeffvit')
    if not _has_distribution('mmsegmentation'):
        packages['mmseg'] = 'mmseg'

    get_cfg_path = Config._get_cfg_path

    def get_own_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith(_PREFIX):
            return get_cfg_path(cfg_path, filename)
        path = _CONFIGS / cfg_path.removeprefix(_PREFIX)
        _config_utils.check_file_exist(str(path))
        return str(path), None

    Config._get_cfg_path = staticmethod(get_own_cfg_path)
