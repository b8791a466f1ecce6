"""From a map to the tokens of a coarser grid: patch embedding and patch merging."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import map_to_tokens
from ..ops.layout import Grid, divide_up, same_sizes
from ..registry import MODELS
from .init import init_conv, init_linear

_CONVS: dict[int, Callable[..., nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


@MODELS.register_module()
class PatchEmbed(nn.Module):
    """Patch embedding: a strided convolution from a map to tokens, then LayerNorm.

    Sides that are not multiples of the stride are rounded up: by ``padding`` where it covers half
    of a patch, otherwise by zeros at the bottom and right.

    Args:
        in_channels (int): Channels of the map.
        embed_dims (int): Width of the tokens.
        patch_size (int | Sequence[int]): Kernel size; three numbers (frames, height, width) for
            clips.
        stride (int | Sequence[int]): Stride in pixels, one or three numbers as ``patch_size``.
        padding (int): Zeros on all sides, for overlapping patches.
        norm (bool): Whether a LayerNorm follows.
        init (Callable, optional): Initialiser of the convolution, PVTv2's by default; None leaves
            torch's, as Swin and PVT do.
        norm_eps (float): Epsilon of the LayerNorm; 1e-6 in mmdet's and mmseg's PVT and MiT.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: int = 0,
        norm: bool = True,
        init: Callable[..., object] | None = init_conv,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        patch = (patch_size,) * 2 if isinstance(patch_size, int) else tuple(patch_size)
        self.proj = _CONVS[len(patch)](in_channels, embed_dims, patch, stride, padding)
        if init is not None:
            init(self.proj)
        self.norm = nn.LayerNorm(embed_dims, eps=norm_eps) if norm else nn.Identity()
        self.rounds_up = all(2 * padding >= side - 1 for side in patch)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Embed the patches of a map.

        Args:
            x (Tensor): ``(B, in_channels, H, W)``, or clips ``(B, in_channels, T, H, W)``.

        Returns:
            tuple: Tokens ``(B, H' * W', embed_dims)`` and the grid ``(H', W')``; with ``T'`` first
            for clips.
        """
        if not self.rounds_up:
            sides, steps = x.shape[2:], self.proj.stride
            whole = [divide_up(side, step) * step for side, step in zip(sides, steps)]
            if not same_sizes(sides, whole):
                missing = [padded - side for padded, side in zip(whole, sides)]
                x = F.pad(x, [n for side in reversed(missing) for n in (0, side)])
        x = self.proj(x)
        return self.norm(map_to_tokens(x)), tuple(x.shape[2:])


@MODELS.register_module()
class PatchMerging(nn.Module):
    """Patch merging (Swin): concatenate the pixels of each 2x2 patch, LayerNorm, linear layer.

    Odd sides are padded with zeros at the bottom and right.

    Args:
        in_channels (int): Channels C of the map.
        embed_dims (int): Width of the tokens.
        norm_eps (float): Epsilon of the LayerNorm.
    """

    def __init__(self, in_channels: int, embed_dims: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_channels, eps=norm_eps)
        self.reduction = init_linear(nn.Linear(4 * in_channels, embed_dims, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Merge the patches of a map.

        Args:
            x (Tensor): ``(B, C, H, W)``.

        Returns:
            tuple: Tokens ``(B, H' * W', embed_dims)`` and the grid ``(H', W')``.
        """
        height, width = x.shape[2:]
        grid = (divide_up(height, 2), divide_up(width, 2))
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 2 * grid[1] - width, 0, 2 * grid[0] - height))
        # Swin puts (row, column) of the patch in the order (0,0), (1,0), (0,1), (1,1).
        patches = x.unflatten(2, (grid[1], 2)).unflatten(1, (grid[0], 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(patches.flatten(3).flatten(1, 2))), grid
