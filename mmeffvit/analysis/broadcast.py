"""Which parts of an image listen to which global token (DualToken-ViT, figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from .prediction_grid import tile

_BOX = (40, 40, 230)


def global_broadcast(
    backbone: nn.Module, image: Tensor, stage: int = -1, block: int = -1
) -> Tensor:
    """Attention of every image token to every global token in one block.

    Args:
        backbone (nn.Module): Two-stream backbone whose attention has ``broadcast_weights``.
        image (Tensor): Normalised image ``(1, 3, H, W)``.
        stage (int): Index of the stage.
        block (int): Index of the block in it.

    Returns:
        Tensor: ``(H', W', T)``, the mean over the heads, on the grid of the stage; the last
        dimension sums to 1.

    Raises:
        ValueError: If the backbone has no such block, or the block no global tokens.
    """
    try:
        attn = backbone.stages[stage].blocks[block].attn
    except (AttributeError, IndexError):
        attn = None
    if not hasattr(attn, 'broadcast_weights') or backbone.global_token is None:
        raise ValueError(
            f'{type(backbone).__name__} broadcasts no global tokens in stage {stage}, block '
            f'{block}; use a DualTokenViT with tokens and indices that it has.'
        )
    inputs: list[tuple] = []
    handle = attn.register_forward_pre_hook(lambda module, args: inputs.append(args))
    try:
        with torch.no_grad():
            backbone(image)
            x, g, grid = inputs[0]
            return attn.broadcast_weights(x, g, grid)[0].mean(0).unflatten(0, grid)
    finally:
        handle.remove()


def draw_broadcast(
    image: np.ndarray,
    weights: np.ndarray,
    token_size: tuple[int, int],
    tokens: Sequence[tuple[int, int]],
) -> np.ndarray:
    """Draw an image and, per chosen token, how strongly its parts attend to that token.

    Args:
        image (np.ndarray): BGR ``uint8`` image of shape ``(H, W, 3)``.
        weights (np.ndarray): ``(H', W', T)``.
        token_size (tuple[int, int]): Grid of the global tokens.
        tokens (Sequence[tuple[int, int]]): Row and column of each chosen token.

    Returns:
        np.ndarray: BGR picture, the image first; a box marks each token's place.
    """
    height, width = image.shape[:2]
    panels = [image]
    for row, column in tokens:
        heat = weights[..., row * token_size[1] + column]
        heat = (heat - heat.min()) / max(heat.max() - heat.min(), 1e-12)
        heat = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        colours = cv2.applyColorMap((255 * heat.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        panel = cv2.addWeighted(image, 0.4, colours, 0.6, 0)
        top, bottom = (round(height * r / token_size[0]) for r in (row, row + 1))
        left, right = (round(width * c / token_size[1]) for c in (column, column + 1))
        cv2.rectangle(panel, (left, top), (right - 1, bottom - 1), _BOX, 2)
        panels.append(panel)
    return tile(panels, columns=min(len(panels), 4))
