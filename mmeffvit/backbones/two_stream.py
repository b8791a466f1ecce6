from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..layers.lightvit import ConvStem, DualPatchMerging
from ..ops import tokens_to_map
from ..ops.layout import Grid
from .base import Backbone

OUT_TYPES = ('featmap', 'raw')


class TwoStreamTransformer(Backbone):
    """Vision transformer with image tokens and a few global tokens, updated by every block.

    ::

        image -> stem /8 -> blocks -> merge /2 -> blocks -> merge /2 -> blocks -> norm -> maps
        learned tokens ----^  updated by every block, re-projected by every merge

    Args:
        blocks (Sequence[Sequence[nn.Module]]): Per stage, blocks of the contract
            ``block(x, x_global, grid) -> (x, x_global)`` with image tokens ``x`` of
            ``(B, H*W, C)`` and global tokens ``x_global`` of ``(B, T, C)`` or None.
        embed_dims (Sequence[int]): Width of each stage.
        num_tokens (int): Number T of global tokens; 0 for none.
        in_channels (int): Channels of the image.
        norm_eps (float): Epsilon of the output norms.
        out_type (str): ``'featmap'``: maps, each with its own norm; ``'raw'``: the tokens of the
            last stage for a classifier, global ones first, ``(B, T + H*W, C)``.
        out_indices (int | Sequence[int], optional): Stages to output; by default all, or with
            ``'raw'`` the last. Stages after the last of them are not built.
        frozen_stages (int): -1 nothing, 0 the stem and the learned tokens, ``n`` also the first
            ``n`` stages.
        norm_eval (bool): Keep the stem's BatchNorm statistics fixed in training, as LightViT does
            for detection.
        init_cfg (dict, optional): mmengine initialisation.
        pretrained (str, optional): Checkpoint, short for an ``init_cfg`` of type ``Pretrained``.

    Raises:
        ValueError: If ``out_type`` is not one of the allowed values, or ``'raw'`` is combined with
            an earlier stage.

    Source: LightViT (arXiv 2207.05557), DualToken-ViT (arXiv 2309.12424).
    """

    output_layers = ('norm',)
    depth_patterns: ClassVar[dict[str, str]] = {
        'stem': r'stem\.|global_token$',
        'block': r'stages\.(?P<stage>\d+)\.(?:blocks\.(?P<block>\d+)|merge)\.',
        'stage_end': r'norm(?P<stage>\d+)\.',
    }

    def __init__(
        self,
        blocks: Sequence[Sequence[nn.Module]],
        embed_dims: Sequence[int],
        num_tokens: int,
        *,
        in_channels: int = 3,
        norm_eps: float = 1e-6,
        out_type: str = 'featmap',
        out_indices: int | Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
        pretrained: str | None = None,
    ) -> None:
        num_stages = len(blocks)
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} must be one of {OUT_TYPES}.')
        if out_indices is None:
            out_indices = range(num_stages) if out_type == 'featmap' else -1
        strides = [8 << stage for stage in range(num_stages)]
        super().__init__(
            embed_dims, strides, out_indices, frozen_stages, norm_eval, init_cfg, pretrained
        )
        if out_type == 'raw' and self.out_indices != (num_stages - 1,):
            raise ValueError(
                f"out_type='raw' supports only the last stage, not out_indices={out_indices}; "
                'omit out_indices.'
            )
        self.out_type = out_type

        self.stem = ConvStem(in_channels, embed_dims[0])
        self.global_token = None
        if num_tokens:
            self.global_token = nn.Parameter(torch.zeros(1, num_tokens, embed_dims[0]))
            nn.init.trunc_normal_(self.global_token, std=0.02)
        self.stages = nn.ModuleList()
        for i, stage_blocks in enumerate(blocks[: self.out_indices[-1] + 1]):
            merge = None
            if i:
                merge = DualPatchMerging(embed_dims[i - 1], embed_dims[i], num_tokens > 0)
            self.stages.append(TwoStreamStage(stage_blocks, merge))
        self._norm_names = {i: f'norm{i}' for i in self.out_indices}
        if out_type == 'raw':
            self._norm_names = {num_stages - 1: 'norm'}
        for i, name in self._norm_names.items():
            self.add_module(name, nn.LayerNorm(embed_dims[i], eps=norm_eps))
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images ``(B, in_channels, H, W)`` of any size.

        Returns:
            tuple[Tensor]: Maps ``(B, C_i, H_i, W_i)`` at strides 8, 16, 32 (sides rounded up),
            channels-last in memory, for ``out_indices``; or tokens, see ``out_type``.
        """
        x, grid = self.stem(x)
        x_global = (
            None if self.global_token is None else self.global_token.expand(x.shape[0], -1, -1)
        )
        outs = []
        for i, stage in enumerate(self.stages):
            x, x_global, grid = stage(x, x_global, grid)
            if i in self.out_indices:
                outs.append(self._output(i, x, x_global, grid))
        return tuple(outs)

    def _output(self, i: int, x: Tensor, x_global: Tensor | None, grid: Grid) -> Tensor:
        norm = getattr(self, self._norm_names[i])
        if self.out_type == 'featmap':
            return tokens_to_map(norm(x), grid)
        return norm(x if x_global is None else torch.cat([x_global, x], dim=1))

    def stem_modules(self) -> Sequence[nn.Module | nn.Parameter]:
        """Return the stem and the learned global tokens."""
        return [self.stem] if self.global_token is None else [self.stem, self.global_token]

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Return each stage, which includes its patch merging, with its output norm."""
        norms = {i: [getattr(self, name)] for i, name in self._norm_names.items()}
        return [[stage, *norms.get(i, [])] for i, stage in enumerate(self.stages)]

    def blocks_per_stage(self) -> list[int]:
        """Return the number of blocks of each stage that is built."""
        return [len(cast(TwoStreamStage, stage).blocks) for stage in self.stages]


class TwoStreamStage(nn.Module):
    """Stage of :class:`TwoStreamTransformer`: patch merging, then blocks.

    Args:
        blocks (Sequence[nn.Module]): ``block(x, x_global, grid) -> (x, x_global)``.
        merge (nn.Module, optional): ``merge(x, x_global, grid) -> (x, x_global, grid)``.
    """

    def __init__(self, blocks: Sequence[nn.Module], merge: nn.Module | None = None) -> None:
        super().__init__()
        self.merge = merge
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, x: Tensor, x_global: Tensor | None, grid: Grid
    ) -> tuple[Tensor, Tensor | None, Grid]:
        """Apply the stage.

        Args:
            x (Tensor): Image tokens ``(B, H*W, C)``.
            x_global (Tensor, optional): Global tokens ``(B, T, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Image tokens ``(B, H'*W', C')``, global tokens ``(B, T, C')`` and the grid.
        """
        if self.merge is not None:
            x, x_global, grid = self.merge(x, x_global, grid)
        for block in self.blocks:
            x, x_global = block(x, x_global, grid)
        return x, x_global, grid
