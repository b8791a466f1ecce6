from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...layers import DropPath, Mlp, TransformerBlock, drop_path_schedule
from ...layers.block import RecomputingBlock
from ...layers.deprecated import adopt_options
from ...layers.space_time import (
    AttentionSource,
    ReusedSpaceTimeAttention,
    SharedSpaceTimeAttention,
    SpaceTimeAttention,
)
from ...ops import map_to_tokens, tokens_to_map
from ...registry import MODELS, build_layer
from ..padding import pad_to_multiples

NORMS = ('batch', 'group')
KINDS = ('local', 'global')


class _PointwiseMlp(nn.Module):
    """Two 1x1x1 convolutions around GELU."""

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv3d(embed_dims, hidden_dims, 1)
        self.fc2 = nn.Conv3d(hidden_dims, embed_dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LocalBlock(RecomputingBlock):
    """Local relation block: a 5x5x5 depthwise convolution in place of attention.

    Args:
        embed_dims (int): Width C.
        mlp_ratio (int): Hidden width of the MLP over C.
        drop_path (float): Drop rate of both residual branches.
        norm (str): ``'batch'`` as published, or ``'group'`` (one group), which does not depend on
            the batch.
        with_cp (bool | str): What to recompute in backward: True or ``'all'`` the block, ``'mlp'``
            the second branch.

    Raises:
        ValueError: If ``norm`` or ``with_cp`` is not one of the allowed values.

    Source: Li et al., "UniFormer" (ICLR 2022), section 3.2.
    """

    def __init__(
        self,
        embed_dims: int,
        mlp_ratio: int = 4,
        drop_path: float = 0.0,
        norm: str = 'batch',
        with_cp: bool | str = False,
    ) -> None:
        super().__init__(with_cp)
        if norm not in NORMS:
            raise ValueError(f'norm={norm!r} must be one of {NORMS}.')
        self.pos_embed = _depthwise(embed_dims, 3)
        self.norm1 = _norm(norm, embed_dims)
        self.conv1 = nn.Conv3d(embed_dims, embed_dims, 1)
        self.attn = _depthwise(embed_dims, 5)
        self.conv2 = nn.Conv3d(embed_dims, embed_dims, 1)
        self.norm2 = _norm(norm, embed_dims)
        self.mlp = _PointwiseMlp(embed_dims, mlp_ratio * embed_dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, T, H, W)`` to the same shape."""
        return self.recompute('all', self._run, x)

    def _run(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return self.recompute('mlp', self._feed_forward, x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mlp(self.norm2(x)))


class GlobalBlock(TransformerBlock):
    """Global relation block: a position convolution, then a transformer block over the clip.

    Args:
        embed_dims (int): Width C.
        attn (nn.Module): Attention layer on the grid ``(T, H, W)``;
            :class:`ReusedSpaceTimeAttention` also takes the attention of another block.
        mlp_ratio (int): Hidden width of the MLP over C.
        drop_path (float): Drop rate of both residual branches.
        norm_eps (float): Epsilon of both LayerNorms.
        with_cp (bool | str): See :class:`LocalBlock`.

    Source: Li et al., "UniFormer" (ICLR 2022), section 3.2.
    """

    def __init__(
        self,
        embed_dims: int,
        attn: nn.Module,
        mlp_ratio: int = 4,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        with_cp: bool | str = False,
    ) -> None:
        mlp = Mlp(embed_dims, mlp_ratio * embed_dims)
        super().__init__(embed_dims, attn, mlp, drop_path, norm_eps, with_cp)
        self.pos_embed = _depthwise(embed_dims, 3)

    def forward(
        self, x: Tensor, source: AttentionSource | None = None
    ) -> tuple[Tensor, AttentionSource | None]:
        """Apply the block.

        Args:
            x (Tensor): ``(B, C, T, H, W)``.
            source (AttentionSource, optional): Attention of another block, for a layer that reuses
                it.

        Returns:
            tuple: ``(B, C, T, H, W)``, and this block's attention if its layer returns that.
        """
        return self.recompute('all', self._run, x, source)

    def _run(
        self, x: Tensor, source: AttentionSource | None
    ) -> tuple[Tensor, AttentionSource | None]:
        x = x + self.pos_embed(x)
        grid, tokens, kept = tuple(x.shape[2:]), map_to_tokens(x), None
        reused = () if source is None else (source,)
        attended = self.attn(self.norm1(tokens), grid, *reused)
        if isinstance(attended, tuple):
            attended, kept = attended
        tokens = tokens + self.drop_path(attended)
        tokens = self.recompute('mlp', self._feed_forward, tokens, grid)
        return tokens_to_map(tokens, grid), kept


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
        attention (dict, optional): Options of the attention layer of global blocks,
            :class:`~mmeffvit.layers.space_time.SpaceTimeAttention`; with a ``type``, the config of
            another layer.
        head_dims (int): Width of a head.
        mlp_ratio (int): Hidden width of the MLPs over their width.
        num_frames (int): Frames of a clip.
        norm (str): ``'batch'`` or ``'group'``, see :class:`LocalBlock`.
        drop_path_rate (float): Rate of the deepest blocks, linear from 0 at either end.
        with_cp (bool | str): What blocks recompute in backward: True or ``'all'`` the block,
            ``'mlp'`` its second branch.
        init_cfg (dict, optional): mmengine initialisation.

    Raises:
        ValueError: If the sequences differ in length, or an option is not one of the allowed
            values.

    Source: the video denoiser of SkipAt (ICLR 2024), section 4.4; blocks of UniFormer (ICLR 2022).
    """

    zoo: ClassVar[dict[str, dict]] = {'uniformer': {}}

    def __init__(
        self,
        embed_dims: Sequence[int] = (32, 64, 128, 256),
        depths: Sequence[int] = (3, 3, 2, 2),
        kinds: Sequence[str] = ('local', 'local', 'global', 'global'),
        *,
        attention: dict | None = None,
        head_dims: int = 32,
        mlp_ratio: int = 4,
        num_frames: int = 7,
        norm: str = 'batch',
        drop_path_rate: float = 0.0,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
        **old,
    ) -> None:
        old = adopt_options(dict(old, attention=attention), 'window')
        attention = old.pop('attention') or {}
        if old:
            raise TypeError(f'{type(self).__name__} has no argument {next(iter(old))!r}.')
        super().__init__(init_cfg)
        if not len(embed_dims) == len(depths) == len(kinds):
            raise ValueError(
                f'embed_dims={embed_dims}, depths={depths} and kinds={kinds} need one entry per '
                'scale each.'
            )
        if set(kinds) - set(KINDS):
            raise ValueError(f'kinds={kinds} must be of {KINDS}.')
        self.num_frames = num_frames
        self.window = attention.get('window')
        rates = drop_path_schedule(drop_path_rate, sum(depths))
        layers = self.attentions(attention)

        def stage(scale: int, layer: dict) -> nn.ModuleList:
            dims, before = embed_dims[scale], sum(depths[:scale])
            defaults = dict(embed_dims=dims, num_heads=dims // head_dims, qkv_bias=True)
            blocks = []
            for rate in rates[before : before + depths[scale]]:
                if kinds[scale] == 'local':
                    blocks.append(LocalBlock(dims, mlp_ratio, rate, norm, with_cp))
                else:
                    attn = build_layer(layer, **defaults)
                    blocks.append(GlobalBlock(dims, attn, mlp_ratio, rate, with_cp=with_cp))
            return nn.ModuleList(blocks)

        scales = range(len(depths))
        pairs = list(pairwise(embed_dims))
        self.stem = nn.Conv3d(3, embed_dims[0], 3, padding=1)
        self.encoder = nn.ModuleList(stage(scale, layers[0]) for scale in scales)
        self.decoder = nn.ModuleList(stage(scale, layers[1]) for scale in scales)
        step = (1, 2, 2)
        self.downs = nn.ModuleList(nn.Conv3d(fine, coarse, step, step) for fine, coarse in pairs)
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, step, step) for fine, coarse in pairs
        )
        self.fuses = nn.ModuleList(nn.Conv3d(2 * fine, fine, 1) for fine, _ in pairs)
        self.head = nn.Conv3d(embed_dims[0], 3, 3, padding=1)

    def attentions(self, options: dict) -> tuple[dict, dict]:
        """Return the attention layers of the encoder and of the decoder.

        Args:
            options (dict): The argument ``attention``.
        """
        layer = {'type': SpaceTimeAttention, **options}
        return layer, layer

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
                    y, source = block(y)
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
        attention (dict, optional): Options of the encoder's
            :class:`~mmeffvit.layers.space_time.SharedSpaceTimeAttention`, such as ``keep``, what
            the decoder is given.
        **kwargs: See :class:`UniFormerUNet`.

    Raises:
        ValueError: See :class:`UniFormerUNet`; also if ``attention`` names another layer.

    Source: SkipAt (ICLR 2024), section 4.4.
    """

    zoo: ClassVar[dict[str, dict]] = {'uniformer_skipat': {}}

    def __init__(self, *args, attention: dict | None = None, **kwargs) -> None:
        super().__init__(
            *args, **adopt_options(dict(kwargs, attention=attention), 'keep', 'window')
        )

    def attentions(self, options: dict) -> tuple[dict, dict]:
        """Return the layer that passes its attention on, and the one that reuses it."""
        if 'type' in options:
            raise ValueError(
                f'attention={options} names a layer, but the decoder reuses the attention of '
                'SharedSpaceTimeAttention; give its options only, or use UniFormerUNet.'
            )
        reused = {name: value for name, value in options.items() if name != 'keep'}
        return dict(options, type=SharedSpaceTimeAttention), dict(
            reused, type=ReusedSpaceTimeAttention
        )


def _depthwise(embed_dims: int, kernel_size: int) -> nn.Conv3d:
    return nn.Conv3d(
        embed_dims, embed_dims, kernel_size, padding=kernel_size // 2, groups=embed_dims
    )


def _norm(kind: str, embed_dims: int) -> nn.Module:
    return nn.BatchNorm3d(embed_dims) if kind == 'batch' else nn.GroupNorm(1, embed_dims)
