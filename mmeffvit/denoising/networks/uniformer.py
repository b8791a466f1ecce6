from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...layers import DropPath, drop_path_schedule
from ...layers.init import init_linear
from ...layers.space_time import AttentionSource, SpaceTimeAttention
from ...registry import MODELS
from ..padding import pad_to_multiples

NORMS = ('batch', 'group')
KEEPS = ('matrix', 'half', 'qk')
KINDS = ('local', 'global')

Window = tuple[int, int, int]


class _Mlp(nn.Module):
    """Two layers around GELU: linear ones, or 1x1x1 convolutions."""

    def __init__(self, embed_dims: int, hidden_dims: int, convolutional: bool) -> None:
        super().__init__()
        if convolutional:
            self.fc1 = nn.Conv3d(embed_dims, hidden_dims, 1)
            self.fc2 = nn.Conv3d(hidden_dims, embed_dims, 1)
        else:
            self.fc1 = init_linear(nn.Linear(embed_dims, hidden_dims))
            self.fc2 = init_linear(nn.Linear(hidden_dims, embed_dims))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LocalBlock(nn.Module):
    """Local relation block: a 5x5x5 depthwise convolution in place of attention.

    Args:
        embed_dims (int): Width C.
        mlp_ratio (int): Hidden width of the MLP over C.
        drop_path (float): Drop rate of both residual branches.
        norm (str): ``'batch'`` as published, or ``'group'`` (one group), which does not depend on
            the batch.

    Source: Li et al., "UniFormer" (ICLR 2022), section 3.2.
    """

    def __init__(
        self, embed_dims: int, mlp_ratio: int = 4, drop_path: float = 0.0, norm: str = 'batch'
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'norm={norm!r} must be one of {NORMS}.')
        self.pos_embed = _depthwise(embed_dims, 3)
        self.norm1 = _norm(norm, embed_dims)
        self.conv1 = nn.Conv3d(embed_dims, embed_dims, 1)
        self.attn = _depthwise(embed_dims, 5)
        self.conv2 = nn.Conv3d(embed_dims, embed_dims, 1)
        self.norm2 = _norm(norm, embed_dims)
        self.mlp = _Mlp(embed_dims, mlp_ratio * embed_dims, convolutional=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, T, H, W)`` to the same shape."""
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class GlobalBlock(nn.Module):
    """Global relation block: joint space-time attention.

    Args:
        embed_dims (int): Width C.
        num_heads (int): Number of heads.
        mlp_ratio (int): Hidden width of the MLP over C.
        drop_path (float): Drop rate of both residual branches.
        norm_eps (float): Epsilon of both LayerNorms.
        window (tuple[int, int, int], optional): Frames, rows and columns of the attention windows;
            None attends over the whole clip.
        reuses (bool): Take the attention of another block.

    Source: Li et al., "UniFormer" (ICLR 2022), section 3.2.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: int = 4,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        window: Window | None = None,
        reuses: bool = False,
    ) -> None:
        super().__init__()
        self.pos_embed = _depthwise(embed_dims, 3)
        self.norm1 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.attn = SpaceTimeAttention(embed_dims, num_heads, reuses=reuses)
        self.norm2 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.mlp = _Mlp(embed_dims, mlp_ratio * embed_dims, convolutional=False)
        self.drop_path = DropPath(drop_path)
        self.window = window

    def forward(
        self, x: Tensor, source: AttentionSource | None = None, keep: str | None = None
    ) -> tuple[Tensor, AttentionSource | None]:
        """Map ``(B, C, T, H, W)`` to the same shape; see :class:`SpaceTimeAttention`."""
        x = x + self.pos_embed(x)
        shape = x.shape[2:]
        window = self._window(shape)
        tokens = _partition(x, window)
        mixed, kept = self.attn(self.norm1(tokens), source, keep)
        tokens = tokens + self._drop(mixed, len(x))
        tokens = tokens + self._drop(self.mlp(self.norm2(tokens)), len(x))
        return _merge(tokens, shape, window), kept

    def _drop(self, tokens: Tensor, B: int) -> Tensor:
        """Drop whole samples, whose windows are in the batch dimension."""
        return self.drop_path(tokens.unflatten(0, (B, -1))).flatten(0, 1)

    def _window(self, shape: Sequence[int]) -> Window:
        if self.window is None:
            return cast(Window, tuple(shape))
        window = tuple(min(size, side) for size, side in zip(self.window, shape))
        if any(side % size for size, side in zip(window, shape)):
            raise ValueError(
                f'window={self.window} does not divide a grid of {tuple(shape)}; choose the frames '
                'of the window among the divisors of the number of frames.'
            )
        return cast(Window, window)


@MODELS.register_module()
class UniFormerUNet(BaseModule):
    """U-shaped video denoiser of local and global relation blocks: clip in, clip out.

    Convolution stages at the two finer scales, space-time attention at the two coarser ones; time
    is never reduced. The decoder has its own blocks at every scale, the coarsest included. The
    paper leaves widths and depths open; the default meets its FLOPs (our choice).

    Args:
        embed_dims (Sequence[int]): Width of each scale.
        depths (Sequence[int]): Blocks of each scale, in the encoder and again in the decoder.
        kinds (Sequence[str]): ``'local'`` or ``'global'`` for each scale.
        head_dims (int): Width of a head.
        mlp_ratio (int): Hidden width of the MLPs over their width.
        num_frames (int): Frames of a clip.
        window (tuple[int, int, int], optional): Frames, rows and columns that global blocks attend
            in; None attends to the whole clip, so memory grows with the square of its size.
        norm (str): ``'batch'`` or ``'group'``, see :class:`LocalBlock`.
        drop_path_rate (float): Rate of the deepest blocks, linear from 0 at either end.
        init_cfg (dict, optional): mmengine initialisation.

    Raises:
        ValueError: If the sequences differ in length, or a kind or norm is unknown.

    Source: the video denoiser of SkipAt (ICLR 2024), section 4.4; blocks of UniFormer (ICLR 2022).
    """

    zoo: ClassVar[dict[str, dict]] = {'uniformer': {}}
    #: How global blocks of the encoder pass their attention on; None keeps nothing.
    keep: str | None = None

    def __init__(
        self,
        embed_dims: Sequence[int] = (32, 64, 128, 256),
        depths: Sequence[int] = (3, 3, 2, 2),
        kinds: Sequence[str] = ('local', 'local', 'global', 'global'),
        *,
        head_dims: int = 32,
        mlp_ratio: int = 4,
        num_frames: int = 7,
        window: Window | None = None,
        norm: str = 'batch',
        drop_path_rate: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not len(embed_dims) == len(depths) == len(kinds):
            raise ValueError(
                f'embed_dims={embed_dims}, depths={depths} and kinds={kinds} need one entry per '
                'scale each.'
            )
        if set(kinds) - set(KINDS):
            raise ValueError(f'kinds={kinds} must be of {KINDS}.')
        self.num_frames = num_frames
        self.window = window
        rates = drop_path_schedule(drop_path_rate, sum(depths))

        def stage(scale: int, reuses: bool) -> nn.ModuleList:
            dims, before = embed_dims[scale], sum(depths[:scale])
            blocks = []
            for rate in rates[before : before + depths[scale]]:
                if kinds[scale] == 'local':
                    blocks.append(LocalBlock(dims, mlp_ratio, rate, norm))
                else:
                    heads = dims // head_dims
                    blocks.append(
                        GlobalBlock(dims, heads, mlp_ratio, rate, window=window, reuses=reuses)
                    )
            return nn.ModuleList(blocks)

        scales = range(len(depths))
        pairs = list(pairwise(embed_dims))
        self.stem = nn.Conv3d(3, embed_dims[0], 3, padding=1)
        self.encoder = nn.ModuleList(stage(scale, False) for scale in scales)
        self.decoder = nn.ModuleList(stage(scale, self.keep is not None) for scale in scales)
        step = (1, 2, 2)
        self.downs = nn.ModuleList(nn.Conv3d(fine, coarse, step, step) for fine, coarse in pairs)
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, step, step) for fine, coarse in pairs
        )
        self.fuses = nn.ModuleList(nn.Conv3d(2 * fine, fine, 1) for fine, _ in pairs)
        self.head = nn.Conv3d(embed_dims[0], 3, 3, padding=1)

    @property
    def size_divisor(self) -> int:
        """Sides are padded to multiples of this: a window, if any, at the coarsest scale."""
        rows, columns = (1, 1) if self.window is None else self.window[1:]
        return math.lcm(rows, columns) << len(self.downs)

    def forward(self, x: Tensor) -> Tensor:
        """Restore.

        Args:
            x (Tensor): Clips ``(B, 3, T, H, W)``, values about [0, 1].

        Returns:
            Tensor: Of the same shape, not clamped.
        """
        H, W = x.shape[-2:]
        y = self.stem(pad_to_multiples(x, self.size_divisor))
        skips, sources = [], []
        for scale, blocks in enumerate(cast(Iterable[nn.ModuleList], self.encoder)):
            if scale:
                skips.append(y)
                y = self.downs[scale - 1](y)
            kept = []
            for block in blocks:
                if isinstance(block, GlobalBlock):
                    y, source = block(y, keep=self.keep)
                    kept.append(source)
                else:
                    y = block(y)
            sources.append(kept)
        for scale in reversed(range(len(self.decoder))):
            if skips and scale < len(self.ups):
                y = torch.cat([self.ups[scale](y), skips.pop()], 1)
                y = self.fuses[scale](y)
            kept = sources.pop()[::-1]
            for block in cast(nn.ModuleList, self.decoder[scale]):
                if isinstance(block, GlobalBlock):
                    y, _ = block(y, kept.pop())
                else:
                    y = block(y)
        return x + self.head(y)[..., :H, :W]


@MODELS.register_module()
class SkipUniFormerUNet(UniFormerUNet):
    """UniFormer video denoiser whose decoder reuses the encoder's attention matrices unchanged.

    Global block j of a decoder scale takes the softmax matrix of block j of the encoder at that
    scale and computes neither queries nor keys: naive SkipAt, which the paper found better here
    than reusing outputs.

    Args:
        *args: See :class:`UniFormerUNet`.
        keep (str): What travels from encoder to decoder. ``'matrix'`` the matrix itself, the fewest
            multiplications; ``'half'`` rounded to bfloat16; ``'qk'`` queries and keys, from which
            the matrix is made again by fused attention, never stored: the least memory, and on
            CPUs the least time.
        **kwargs: See :class:`UniFormerUNet`.

    Raises:
        ValueError: If ``keep`` is unknown.

    Source: SkipAt (ICLR 2024), section 4.4.
    """

    zoo: ClassVar[dict[str, dict]] = {'uniformer_skipat': {}}

    def __init__(self, *args, keep: str = 'matrix', **kwargs) -> None:
        if keep not in KEEPS:
            raise ValueError(f'keep={keep!r} must be one of {KEEPS}.')
        self.keep = keep
        super().__init__(*args, **kwargs)


def _depthwise(embed_dims: int, kernel_size: int) -> nn.Conv3d:
    return nn.Conv3d(
        embed_dims, embed_dims, kernel_size, padding=kernel_size // 2, groups=embed_dims
    )


def _norm(kind: str, embed_dims: int) -> nn.Module:
    return nn.BatchNorm3d(embed_dims) if kind == 'batch' else nn.GroupNorm(1, embed_dims)


def _partition(x: Tensor, window: Window) -> Tensor:
    """Tokens ``(B * windows, N, C)`` of the windows of ``(B, C, T, H, W)``."""
    x = x.permute(0, 2, 3, 4, 1)
    for axis, size in zip((1, 3, 5), window):
        x = x.unflatten(axis, (-1, size))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3).flatten(1, 3)


def _merge(tokens: Tensor, shape: Sequence[int], window: Window) -> Tensor:
    """Inverse of :func:`_partition`."""
    counts = [side // size for side, size in zip(shape, window)]
    x = tokens.unflatten(1, window).unflatten(0, (-1, *counts))
    x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
    return x.reshape(len(x), x.shape[1], *shape)
