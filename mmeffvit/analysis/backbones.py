"""A config's backbone by itself, for tools that look inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..checkpoints import load_weights
from ..engine.launch import read_config
from ..engine.scopes import activate_scope
from ..utils.cli import UserError


def load_backbone(
    path: str | Path, checkpoint: str | Path | None = None
) -> tuple[nn.Module, Tensor, Tensor]:
    """Build the backbone of a config.

    Args:
        path (str | Path): A config of any task.
        checkpoint (str | Path, optional): Weights of the whole model or of the backbone alone; only
            tensors and training state are read.

    Returns:
        tuple: The backbone in eval mode, and its images' mean and deviation ``(3, 1, 1)``, RGB.

    Raises:
        UserError: If the config or the weights cannot be used.
    """
    config = read_config(path)
    scope = activate_scope(config)
    init_default_scope(scope)
    if 'backbone' not in config.get('model', {}):
        raise UserError(f'The model of {path} has no backbone.')
    backbone = MODELS.build({**config.model.backbone, 'init_cfg': None}).eval()
    if checkpoint is not None:
        try:
            load_weights(backbone, checkpoint)
        except ValueError as error:
            raise UserError(str(error)) from None
    processor = {
        'mean': (0, 0, 0),
        'std': (255,) * 3 if scope == 'mmeffvit' else (1,) * 3,  # denoisers take images in [0, 1]
        **(config.get('data_preprocessor') or {}),
        **(config.model.get('data_preprocessor') or {}),
    }
    mean, std = (torch.tensor(processor[key], dtype=torch.float) for key in ('mean', 'std'))
    return backbone, mean.view(3, 1, 1), std.view(3, 1, 1)


def normalised(image: np.ndarray, mean: Tensor, std: Tensor) -> Tensor:
    """RGB image ``(H, W, 3)`` uint8 to the input ``(3, H, W)`` of a backbone."""
    return (torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std
