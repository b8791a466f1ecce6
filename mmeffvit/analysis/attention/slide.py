from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...layers import SlideAttention
from ...ops.layout import Grid
from .protocol import AttentionMap, AttentionQuery, explain


@explain.register(SlideAttention)
def explain_slide(
    layer: SlideAttention,
    x: Tensor,
    grid: Grid,
    *,
    query: AttentionQuery,
) -> list[AttentionMap]:
    """Weights of the taps around the point, each at the offset that the fixed bank shifts by."""
    row, column = query.cell(grid)
    size = layer.kernel_size
    margin = size // 2
    weights = tap_weights(layer, x[:1], grid)
    canvas = weights.new_zeros(grid[0] + 2 * margin, grid[1] + 2 * margin)
    window = weights[0, row, column].mean(0).view(size, size)
    canvas[row : row + size, column : column + size] = window
    inside = canvas[margin : margin + grid[0], margin : margin + grid[1]]
    return [query.map_at_point('taps of the point', inside, grid)]


def tap_weights(layer: SlideAttention, x: Tensor, grid: Grid) -> Tensor:
    """Attention weights of the taps of a layer.

    With kernels of zeros and one-hot biases for the values, channel ``c`` of the op's result is the
    weight of the tap whose bias is 1 there.

    Args:
        layer (SlideAttention): The layer.
        x (Tensor): Tokens ``(B, H*W, C)``.
        grid (tuple[int, int]): ``(H, W)``.

    Returns:
        Tensor: ``(B, H, W, heads, K)``; they sum to 1 over the taps, row-major.
    """
    q, k, _ = layer.project(x, grid)
    D, taps = layer.head_dims, layer.kernel_size**2
    kernels = k.new_zeros(D, taps, taps)
    parts = []
    for chosen in torch.eye(taps, dtype=k.dtype, device=k.device).split(D):
        one_hot = F.pad(chosen, (0, 0, 0, D - len(chosen)))
        parts.append(layer.attend(q, k, k, value_bank=(kernels, one_hot))[..., : len(chosen)])
    return torch.cat(parts, -1)
