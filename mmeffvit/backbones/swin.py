from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..layers import Mlp, PatchEmbed, PatchMerging, PositionEmbedding, TransformerBlock
from ..layers.build import AttentionConfig, build_attentions
from ..layers.drop import drop_path_schedule
from ..ops import map_to_tokens, tokens_to_map
from ..registry import MODELS
from .base import StagedBackbone, find_arch, stage_strides, zoo_of
from .pyramid import PyramidStage

#: Swin Transformer (ICCV 2021), section 3.3.
SWIN_ARCHS = {
    'tiny': dict(embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
    'small': dict(embed_dims=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24)),
    'base': dict(embed_dims=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)),
    'large': dict(embed_dims=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48)),
}


def window_attentions(
    depths: Sequence[int], window_size: int | Sequence[int] = 7
) -> list[list[dict]]:
    """Swin's attention of each stage: regular and shifted windows in turn.

    Raises:
        ValueError: If there is not one window size per stage.
    """
    sizes = [window_size] * len(depths) if isinstance(window_size, int) else window_size
    if len(sizes) != len(depths):
        raise ValueError(f'window_size={window_size} must hold one size per stage, {len(depths)}.')
    return [
        [
            dict(type='WindowAttention', window_size=size, shift=block % 2 == 1)
            for block in range(depth)
        ]
        for depth, size in zip(depths, sizes)
    ]


@MODELS.register_module()
class SwinTransformer(StagedBackbone):
    """The four-stage pyramid of Swin (Liu et al., ICCV 2021), with any attention in any block.

    Every output has a norm of its own; the stream from stage to stage has none.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, or a dict of
            ``embed_dims`` (width of the first stage, doubled at each next), ``depths``,
            ``num_heads``.
        attentions (Sequence[dict | Sequence[dict]], optional): Attention layer of each stage: one
            config for all its blocks, or one per block. Width, heads and ``qkv_bias`` are filled
            in. Swin's own by default.
        window_size (int | Sequence[int]): Side of the windows of Swin's own attention, or one per
            stage.
        in_channels (int): Channels of the image.
        mlp_ratio (int): Hidden width of the MLPs over the width.
        position_size (int, optional): Image side of a learned position table after the patch
            embedding; None for none.
        qkv_bias (bool): Biases of the query, key and value projections.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of all norms.
        out_indices (int | Sequence[int]): Stages to output.
        frozen_stages (int): -1 nothing, 0 the patch embedding, ``n`` the first ``n`` stages.
        norm_eval (bool): Keep BatchNorm statistics fixed in training.
        with_cp (bool | str): What to recompute in backward: ``'mlp'``, or ``'all'`` (or True).
        init_cfg (dict, optional): mmengine initialisation.

    Raises:
        ValueError: If the stages of ``arch`` and ``attentions`` do not agree.
    """

    zoo = zoo_of('swin', SWIN_ARCHS)
    output_layers = ('norms.',)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        attentions: Sequence[AttentionConfig] | None = None,
        *,
        window_size: int | Sequence[int] = 7,
        in_channels: int = 3,
        mlp_ratio: int = 4,
        position_size: int | None = None,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-5,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
    ) -> None:
        arch = find_arch(SWIN_ARCHS, arch)
        depths, num_heads = arch['depths'], arch['num_heads']
        widths = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        strides = stage_strides(len(depths))
        super().__init__(widths, strides, out_indices, frozen_stages, norm_eval, init_cfg)
        if attentions is None:
            attentions = window_attentions(depths, window_size)
        if not len(num_heads) == len(attentions) == len(depths):
            raise ValueError(
                f'There are {len(num_heads)} num_heads and {len(attentions)} attentions for '
                f'{len(depths)} stages; give one of each per stage.'
            )

        drop_rates = iter(drop_path_schedule(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList()
        self.norms = nn.ModuleDict()
        for i, (depth, width) in enumerate(zip(depths, widths)):
            if i == 0:
                patch_embed = PatchEmbed(in_channels, width, 4, 4)
            else:
                patch_embed = PatchMerging(width // 2, width, norm_eps)
            blocks = [
                TransformerBlock(
                    width, attn, Mlp(width, width * mlp_ratio), next(drop_rates), norm_eps, with_cp
                )
                for attn in build_attentions(attentions[i], depth, width, num_heads[i], qkv_bias)
            ]
            position = None
            if position_size and i == 0:
                position = PositionEmbedding(width, (position_size // 4,) * 2)
            self.stages.append(PyramidStage(patch_embed, blocks, position=position))
            if i in self.out_indices:
                self.norms[str(i)] = nn.LayerNorm(width, eps=norm_eps)
        self.freeze()

    def output(self, x: Tensor, index: int) -> Tensor:
        """The stage's map, normed."""
        tokens = self.norms[str(index)](map_to_tokens(x))
        return tokens_to_map(tokens, (x.shape[2], x.shape[3]))

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Each stage with its patch embedding and its output norm."""
        return [
            [stage, *([self.norms[str(i)]] if i in self.out_indices else [])]
            for i, stage in enumerate(self.stages)
        ]
