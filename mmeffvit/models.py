"""Building models: by name, from a config, or only the backbone of a config."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope, init_default_scope

from .checkpoints import load_weights
from .checkpoints.index import published_model, resolve
from .utils.config import activate_scope, read_config
from .zoo import current_name, entries

if TYPE_CHECKING:
    from torch import Tensor, nn


def get_model(name: str, pretrained: bool | str | Path | None = None, **options) -> nn.Module:
    """Build a backbone or denoiser by name, without any of the frameworks.

    Args:
        name (str): One of :func:`list_models`.
        pretrained (bool | str | Path, optional): True for the published weights of that name; or
            a file or URL of weights, ``.pth`` or ``.safetensors``, converted by
            ``tools/convert_checkpoint.py`` or trained here, or ``mmeffvit://NAME``. Only tensors
            are loaded, and every one must fit; norms of other ``out_indices`` may be absent or in
            excess.
        **options: Arguments of the class, such as ``out_indices``.

    Returns:
        nn.Module: The model, in training mode. A backbone returns a tuple of maps, and says in
        ``out_channels`` and ``out_strides`` which.

    Raises:
        ValueError: If there is no such model, no weights are published for it, or they cannot be
            had or are not its own.

    Example:
        >>> backbone = mmeffvit.get_model('quadtree_b2', pretrained=True, out_indices=(1, 2, 3))
        >>> features = backbone(torch.rand(1, 3, 480, 640))
    """
    known = entries()
    name = current_name(name, known)
    if name not in known:
        near = ', '.join(get_close_matches(name, known)) or 'none is near'
        raise ValueError(
            f'There is no model {name!r} ({near}); mmeffvit.list_models() gives all names.'
        )
    model_class, arguments = known[name]
    if pretrained is True:
        pretrained = published_model(name).address
    model = model_class(**{**arguments, **options})
    if pretrained:
        load_weights(model, pretrained)
    return model


def build_model(config: str | Path | Config) -> nn.Module:
    """Build the model of a config in the config's scope, as a Runner does.

    Args:
        config (str | Path | Config): A config of any task, or its path.

    Returns:
        nn.Module: The whole model, in training mode, with the config's data preprocessor.

    Raises:
        ValueError: If there is no such file, or the config has no model.
        ImportError: If the config's framework is not installed.
    """
    if not isinstance(config, Config):
        config = read_config(config)
    if 'model' not in config:
        raise ValueError(f'{config.filename or "The config"} has no model: set model=dict(...).')
    if not isinstance(config.model, dict):
        raise ValueError(f'model={config.model!r} of the config must be dict(type=...).')
    model = config.model.copy()
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmeffvit')):
        return ROOT_MODELS.build(model)


def find_model(name: str) -> nn.Module:
    """Build the model that a user names.

    Args:
        name (str): The path of a config, ``*.py``, or one of :func:`mmeffvit.list_models`.

    Raises:
        ValueError: If there is neither.
    """
    return build_model(name) if name.endswith('.py') else get_model(name)


def load_backbone(
    path: str | Path, checkpoint: str | Path | None = None
) -> tuple[nn.Module, Callable[[np.ndarray], Tensor]]:
    """Build only the backbone of a config, with the normalization of its images.

    Args:
        path (str | Path): A config of any task.
        checkpoint (str | Path, optional): Weights of the whole model or of the backbone, or
            ``'published'`` for those of the config; only tensors and training state are read.

    Returns:
        tuple: The backbone in eval mode, and a function from an RGB image ``(H, W, 3)`` uint8 to
        the backbone's input ``(3, H, W)``.

    Raises:
        ValueError: If the config or the weights cannot be used.
    """
    config = read_config(path)
    scope = activate_scope(config)
    init_default_scope(scope)
    model = config.get('model')
    if not isinstance(model, dict) or not isinstance(model.get('backbone'), dict):
        raise ValueError(f'The model of {path} has no backbone.')
    backbone = ROOT_MODELS.build({**config.model.backbone, 'init_cfg': None}).eval()
    if checkpoint is not None:
        load_weights(backbone, resolve(checkpoint, path))
    processor = {
        'mean': (0, 0, 0),
        'std': (255,) * 3 if scope == 'mmeffvit' else (1,) * 3,  # denoisers take images in [0, 1]
        **(config.get('data_preprocessor') or {}),
        **(config.model.get('data_preprocessor') or {}),
    }
    mean, std = (torch.tensor(processor[key]).view(3, 1, 1) for key in ('mean', 'std'))

    def normalize(image: np.ndarray) -> Tensor:
        return (torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std

    return backbone, normalize
