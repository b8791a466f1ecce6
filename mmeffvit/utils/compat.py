"""One place for what differs between distributions of the OpenMMLab libraries."""

from importlib.metadata import PackageNotFoundError, distribution

from mmengine.config import utils as _config_utils


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

    mmengine wants a folder after ``::``, and this package's configs are flat. They are addressed
    from the folder of their parts: ``mmeffvit::_base_/../retinanet_quadtree_b2_coco.py``.
    """
    packages = _config_utils.MODULE2PACKAGE
    packages.setdefault('mmeffvit', 'mmeffvit')
    if not _has_distribution('mmsegmentation'):
        packages['mmseg'] = 'mmseg'
