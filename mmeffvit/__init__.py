"""Efficient-attention backbones for mmdet, mmseg and mmpretrain in one plugin."""

from .utils.requirements import require

require('mmengine')

from . import engine  # noqa: E402, F401  (its CheckpointHook takes the place of mmengine's)
from .checkpoints.protect import protect_mmengine  # noqa: E402
from .models import get_model  # noqa: E402
from .utils.compat import enable_config_inheritance  # noqa: E402
from .version import __version__  # noqa: E402
from .zoo import list_models  # noqa: E402

enable_config_inheritance()
protect_mmengine()

__all__ = ['__version__', 'get_model', 'list_models']
