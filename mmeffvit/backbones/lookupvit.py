from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..layers import LookupBlock, PatchEmbed, PositionEmbedding, drop_path_schedule
from ..layers.deprecated import adopt_options
from ..layers.init import init_linear
from ..ops import resample_linear, tokens_to_map
from ..registry import MODELS
from ..zoo import find_arch, zoo_of
from .base import Backbone
from .vit import VIT_ARCHS

OUT_TYPES = ('featmap', 'pooled', 'tokens')
OUT_TOKENS = ('lookup', 'add', 'concat')
#: Arguments of version 0.1 that are options of the cross-attention now.
ATTENTION_OPTIONS = ('norm_position', 'l2p_out_proj', 'p2l_out_proj', 'reuse_norm', 'attn_drop')


@MODELS.register_module()
class LookupViT(Backbone):
    """LookupViT: vision transformer that refines a few compressed tokens instead of all tokens.

    The *lookup* tokens are the full grid of patches. The *compressed* tokens are a coarse grid,
    resampled from it; no parameter depends on their number, so it can be changed after training.
    Each block gathers, refines and infuses (:class:`~mmeffvit.layers.LookupBlock`).

    Args:
        arch (str | dict): The sizes of ViT, ``'tiny'``, ``'small'``, ``'base'`` (the paper's),
            ``'large'``, or a dict of ``embed_dims``, ``depth``, ``num_heads`` and, optionally,
            ``mlp_ratio`` (4) and ``lookup_mlp_div`` (2).
        compressed_size (int | Sequence[int], optional): Grid ``(h, w)`` of the compressed tokens,
            ``(t, h, w)`` for videos; one number for all axes.
        compressed_ratio (int, optional): Without ``compressed_size``: side of the lookup grid over
            that of the compressed grid, rounded down; 5x5 if neither is given. Use the ratio of
            pre-training for dense prediction.
        img_size (int | Sequence[int]): Image ``(H, W)``, or clip ``(T, H, W)``, of the position
            embedding, which is interpolated to the grid of every input.
        patch_size (int | Sequence[int]): Side of a patch in pixels; for videos frames, height and
            width of a tubelet. Inputs are padded by zeros at the end of each axis.
        in_channels (int): Channels of the image.
        attention (dict, optional): Options of the cross-attention of
            :class:`~mmeffvit.layers.LookupBlock`: ``norm_position``, ``l2p_out_proj``,
            ``p2l_out_proj``, ``reuse_norm``, ``attn_drop``. ``reuse_norm='row'`` divides by the sum
            over compressed tokens, so features do not depend on their number; recommended for
            dense prediction.
        qkv_bias (bool): Biases of the query, key and value projections.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        layer_scale (float, optional): Initial value of a learned scale per channel on all residual
            branches.
        norm_eps (float): Epsilon of all norms.
        out_type (str): ``'featmap'``: maps at the stride of the patches; ``'pooled'``: mean
            compressed and mean lookup token, for ``LookupViTClsHead``; ``'tokens'``: both sets.
        out_tokens (str): Tokens of the maps: ``'lookup'``; ``'add'``, the lookup tokens plus the
            resampled compressed ones; ``'concat'``, both concatenated and projected to
            ``embed_dims``.
        final_norm (bool): LayerNorm on each output, one per token set and index.
        out_indices (int | Sequence[int]): Blocks to output. Blocks after the last of them are not
            built.
        frozen_stages (int): -1 nothing, 0 patch embedding and position table, ``n`` also the first
            ``n`` blocks.
        with_cp (bool | str): What to recompute in backward: ``'mlp'``, or ``'all'`` (or True).
        init_cfg (dict, optional): mmengine initialisation.
        pretrained (str, optional): Checkpoint, short for an ``init_cfg`` of type ``Pretrained``.

    Other Args:
        antialias (bool): Ablation: resample the compressed tokens with antialiasing, so that every
            lookup token contributes (our choice; the paper says "bilinear").
        share_mhbc (bool): Ablation: share one gathering, infusion and lookup MLP between all
            blocks.
        interpolate_mode (str): Ablation: interpolation of the position embedding, ``'bicubic'`` or
            ``'bilinear'``.

    Raises:
        ValueError: If an option is not one of the allowed values.

    Source: Koner et al., "LookupViT: Compressing visual information to a limited number of tokens"
    (ECCV 2024). Dense prediction is ours.
    """

    archs = VIT_ARCHS
    zoo = zoo_of('lookupvit', VIT_ARCHS)
    output_layers = ('norm_lookup.', 'norm_compressed.', 'fuse.')
    depth_patterns: ClassVar[dict[str, str]] = {
        'stem': r'(?:patch_embed|position)\.',
        'block': r'blocks\.(?P<block>\d+)\.',
    }

    def __init__(
        self,
        arch: str | dict = 'base',
        compressed_size: int | Sequence[int] | None = None,
        compressed_ratio: int | None = None,
        *,
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        in_channels: int = 3,
        antialias: bool = True,
        attention: dict | None = None,
        share_mhbc: bool = False,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        layer_scale: float | None = None,
        norm_eps: float = 1e-6,
        interpolate_mode: str = 'bicubic',
        out_type: str = 'featmap',
        out_tokens: str = 'lookup',
        final_norm: bool = True,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
        pretrained: str | None = None,
        **old,
    ) -> None:
        if 'attn_drop_rate' in old:
            old['attn_drop'] = old.pop('attn_drop_rate')
        old = adopt_options(dict(old, attention=attention), *ATTENTION_OPTIONS)
        attention = old.pop('attention') or {}
        if old:
            raise TypeError(f'LookupViT has no argument {next(iter(old))!r}.')
        arch = find_arch(self.archs, arch)
        embed_dims, depth = arch['embed_dims'], arch['depth']
        stride = patch_size if isinstance(patch_size, int) else tuple(patch_size)
        widths, strides = [embed_dims] * depth, [stride] * depth
        super().__init__(
            widths, strides, out_indices, frozen_stages, init_cfg=init_cfg, pretrained=pretrained
        )
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} must be one of {OUT_TYPES}.')
        if out_tokens not in OUT_TOKENS:
            raise ValueError(f'out_tokens={out_tokens!r} must be one of {OUT_TOKENS}.')
        self.out_type = out_type
        self.out_tokens = out_tokens
        self.antialias = antialias
        both = out_type != 'featmap' or out_tokens != 'lookup'
        patch = (patch_size,) * 2 if isinstance(patch_size, int) else tuple(patch_size)
        image = (img_size,) * len(patch) if isinstance(img_size, int) else tuple(img_size)
        self.num_axes = len(patch)
        self.num_frames = image[0] if self.num_axes == 3 else None
        self.set_compressed_size(compressed_size, compressed_ratio)

        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch, patch, norm=False)
        nn.init.trunc_normal_(self.patch_embed.proj.weight, std=0.02)
        table_grid = tuple(-(-side // step) for side, step in zip(image, patch))
        self.position = PositionEmbedding(embed_dims, table_grid, interpolate_mode)
        self.blocks = nn.ModuleList(
            LookupBlock(
                **{key: value for key, value in arch.items() if key != 'depth'},
                qkv_bias=qkv_bias,
                drop_path=drop_rate,
                layer_scale=layer_scale,
                norm_eps=norm_eps,
                with_cp=with_cp,
                **attention,
            )
            for drop_rate in drop_path_schedule(drop_path_rate, depth)[: self.out_indices[-1] + 1]
        )
        if share_mhbc:
            first, *others = cast(Iterable[LookupBlock], self.blocks)
            for block in others:
                block.share(first)

        self.norm_lookup = self._per_output(_norm, embed_dims, final_norm, norm_eps)
        self.norm_compressed = nn.ModuleDict()
        if both:
            self.norm_compressed = self._per_output(_norm, embed_dims, final_norm, norm_eps)
        self.fuse = nn.ModuleDict()
        if out_type == 'featmap' and out_tokens == 'concat':
            self.fuse = self._per_output(_fusion, embed_dims)
        self.freeze()

    def set_compressed_size(
        self, size: int | Sequence[int] | None, ratio: int | None = None
    ) -> None:
        """Set the grid of the compressed tokens; parameters do not change.

        Args:
            size (int | Sequence[int], optional): ``(h, w)``, ``(t, h, w)`` for videos, or one
                number for all axes.
            ratio (int, optional): Without ``size``: side of the lookup grid over that of the
                compressed grid.

        Raises:
            ValueError: If they are not positive, or ``size`` has the wrong number of axes.
        """
        if size is None and ratio is None:
            size = 5
        if isinstance(size, int):
            size = (size,) * self.num_axes
        if size is not None and (len(size) != self.num_axes or min(size) < 1):
            raise ValueError(
                f'compressed_size={tuple(size)} must be {self.num_axes} positive numbers.'
            )
        if ratio is not None and ratio < 1:
            raise ValueError(f'compressed_ratio={ratio} must be at least 1.')
        self.compressed_size = None if size is None else tuple(size)
        self.compressed_ratio = ratio

    def compressed_grid(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Return the grid of the compressed tokens for a grid of lookup tokens."""
        if self.compressed_size is not None:
            return self.compressed_size
        ratio = cast(int, self.compressed_ratio)
        return tuple(cast(int, torch.sym_max(1, side // ratio)) for side in grid)

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...]:
        """Compute features.

        Args:
            x (Tensor): Images ``(B, in_channels, H, W)``, or clips ``(B, in_channels, T, H, W)``,
                of any size.

        Returns:
            tuple: For each of ``out_indices`` a map ``(B, D, H', W')`` at the stride of the patches
            (sides rounded up), channels-last in memory; or compressed and lookup tokens
            ``(B, M, D)`` and ``(B, N, D)``, or their means ``(B, D)``.
        """
        lookup, grid = self.patch_embed(x)
        lookup = self.position(lookup, grid)
        compressed_grid = self.compressed_grid(grid)
        compressed = resample_linear(lookup, grid, compressed_grid, self.antialias)
        outs = []
        for i, block in enumerate(self.blocks):
            compressed, lookup = block(compressed, lookup, (compressed_grid, grid))
            if i in self.out_indices:
                outs.append(self._output(i, compressed, compressed_grid, lookup, grid))
        return tuple(outs)

    def _output(self, index, compressed, compressed_grid, lookup, grid):
        index = str(index)
        lookup = self.norm_lookup[index](lookup)
        if index in self.norm_compressed:
            compressed = self.norm_compressed[index](compressed)
        if self.out_type == 'tokens':
            return compressed, lookup
        if self.out_type == 'pooled':
            return compressed.mean(1), lookup.mean(1)
        if self.out_tokens != 'lookup':
            resampled = resample_linear(compressed, compressed_grid, grid)
            if self.out_tokens == 'add':
                lookup = lookup + resampled
            else:
                lookup = self.fuse[index](torch.cat([lookup, resampled], dim=-1))
        return tokens_to_map(lookup, grid)

    def _per_output(self, build: Callable[..., nn.Module], *args) -> nn.ModuleDict:
        return nn.ModuleDict({str(i): build(*args) for i in self.out_indices})

    def stem_modules(self) -> Sequence[nn.Module]:
        """Return the patch embedding and the position embedding."""
        return [self.patch_embed, self.position]

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Return each block with the norms of its output."""
        heads = (self.norm_lookup, self.norm_compressed, self.fuse)
        return [
            [block, *(head[str(i)] for head in heads if str(i) in head)]
            for i, block in enumerate(self.blocks)
        ]

    def blocks_per_stage(self) -> list[int]:
        """Return the number of blocks that are built."""
        return [len(self.blocks)]


def _norm(embed_dims: int, enabled: bool, eps: float) -> nn.Module:
    return nn.LayerNorm(embed_dims, eps=eps) if enabled else nn.Identity()


def _fusion(embed_dims: int) -> nn.Linear:
    return init_linear(nn.Linear(2 * embed_dims, embed_dims))
