from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers import PatchEmbed, PositionEmbedding, TransformerBlock, drop_path_schedule
from ..layers.build import AttentionConfig, build_attentions, build_layer
from ..ops import tokens_to_map
from ..registry import MODELS
from .base import StagedBackbone, stage_strides


@MODELS.register_module()
class PyramidTransformer(StagedBackbone):
    """The four-stage pyramid of PVT and PVTv2, with any attention in any stage or block.

    Args:
        embed_dims (Sequence[int]): Width of each stage.
        depths (Sequence[int]): Blocks of each stage.
        num_heads (Sequence[int]): Heads of each stage.
        mlp_ratios (Sequence[int]): Hidden width of each stage's MLP over its width.
        attentions (Sequence[dict | Sequence[dict]]): Attention layer of each stage: one config for
            all its blocks, or one per block. Width, heads and ``qkv_bias`` are filled in.
        in_channels (int): Channels of the image.
        overlap (bool): Overlapping patches (PVTv2); else PVT's.
        mlp (str): ``'ConvMlp'`` (PVTv2) or ``'Mlp'`` (PVT).
        position_size (int, optional): Image side of learned position tables, one per stage, as PVT
            has them; None for none.
        stage_norm (bool): LayerNorm at the end of each stage (PVTv2).
        qkv_bias (bool): Biases of the query, key and value projections.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of block and stage norms.
        out_indices (int | Sequence[int]): Stages to output.
        frozen_stages (int): -1 nothing, 0 the first patch embedding, ``n`` the first ``n`` stages.
        norm_eval (bool): Keep BatchNorm statistics fixed in training.
        with_cp (bool | str): What to recompute in backward, from little memory saved to much:
            ``'mlp_tail'``, ``'mlp'``, ``'all'`` (or True).
        init_cfg (dict, optional): mmengine initialisation.

    Raises:
        ValueError: If the sequences do not have the same length or an attention list does not have
            one entry per block.

    Source: Wang et al., "Pyramid Vision Transformer" (ICCV 2021) and "PVT v2" (2022).
    """

    def __init__(
        self,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratios: Sequence[int],
        attentions: Sequence[AttentionConfig],
        *,
        in_channels: int = 3,
        overlap: bool = True,
        mlp: str = 'ConvMlp',
        position_size: int | None = None,
        stage_norm: bool = True,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
    ) -> None:
        settings = dict(
            embed_dims=embed_dims, num_heads=num_heads, mlp_ratios=mlp_ratios, attentions=attentions
        )
        for name, values in settings.items():
            if len(values) != len(depths):
                raise ValueError(f'{name} has {len(values)} entries for {len(depths)} stages.')
        strides = stage_strides(len(depths))
        super().__init__(embed_dims, strides, out_indices, frozen_stages, norm_eval, init_cfg)

        drop_rates = iter(drop_path_schedule(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            patch_stride = 4 if i == 0 else 2
            patch_size = patch_stride
            if overlap:
                patch_size = 7 if i == 0 else 3
            self.stages.append(
                PyramidStage(
                    PatchEmbed(in_channels, embed_dims[i], patch_size, patch_stride, overlap),
                    [
                        TransformerBlock(
                            embed_dims[i],
                            attn,
                            _build_mlp(mlp, embed_dims[i], mlp_ratios[i], with_cp),
                            next(drop_rates),
                            norm_eps,
                            with_cp,
                        )
                        for attn in build_attentions(
                            attentions[i], depth, embed_dims[i], num_heads[i], qkv_bias
                        )
                    ],
                    norm=nn.LayerNorm(embed_dims[i], eps=norm_eps) if stage_norm else None,
                    position=PositionEmbedding(
                        embed_dims[i], (position_size // strides[i],) * 2, 'bilinear'
                    )
                    if position_size
                    else None,
                )
            )
            in_channels = embed_dims[i]
        self.freeze()


class PyramidStage(BaseModule):
    """Patch embedding, position table, blocks, norm: one stage from map to map.

    Args:
        patch_embed (nn.Module): Map to tokens and grid.
        blocks (Sequence[nn.Module]): Blocks of the contract ``block(x, grid, carrier)``.
        norm (nn.Module, optional): Norm of the stage's output.
        position (nn.Module, optional): ``position(tokens, grid)``.
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        blocks: Sequence[nn.Module],
        norm: nn.Module | None = None,
        position: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.position = position
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', H', W')``, channels-last in memory."""
        x, grid = self.patch_embed(x)
        if self.position is not None:
            x = self.position(x, grid)
        carrier = None
        for block in self.blocks:
            x, carrier = block(x, grid, carrier)
        if self.norm is not None:
            x = self.norm(x)
        return tokens_to_map(x, grid)


def _build_mlp(kind: str, embed_dims: int, ratio: int, with_cp: bool | str) -> nn.Module:
    config = dict(type=kind, embed_dims=embed_dims, hidden_dims=embed_dims * ratio)
    if with_cp == 'mlp_tail':
        config['checkpoint_tail'] = True
    return build_layer(config)
