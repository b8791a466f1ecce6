from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..layers import Mlp, PatchEmbed, TransformerBlock
from ..layers.build import AttentionConfig, build_attentions
from ..layers.drop import drop_path_schedule
from ..registry import MODELS
from .base import StagedBackbone, find_arch, stage_strides, zoo_of
from .pyramid import PyramidStage

#: CSWin Transformer (CVPR 2022), table 1.
CSWIN_ARCHS = {
    'tiny': dict(embed_dims=64, depths=(1, 2, 21, 1), num_heads=(2, 4, 8, 16)),
    'small': dict(embed_dims=64, depths=(2, 4, 32, 2), num_heads=(2, 4, 8, 16)),
    'base': dict(embed_dims=96, depths=(2, 4, 32, 2), num_heads=(4, 8, 16, 32)),
}


def stripe_attentions(widths: Sequence[int | None] = (1, 2, 7, None)) -> list[dict]:
    """CSWin's attention of each stage."""
    return [dict(type='CrossShapedWindowAttention', stripe_width=width) for width in widths]


@MODELS.register_module()
class CSWinTransformer(StagedBackbone):
    """The four-stage pyramid of CSWin (Dong et al., CVPR 2022), with any attention in any block.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, or a dict of ``embed_dims`` (width
            of the first stage, doubled at each next), ``depths``, ``num_heads``.
        attentions (Sequence[dict | Sequence[dict]], optional): Attention layer of each stage: one
            config for all its blocks, or one per block. Width, heads and ``qkv_bias`` are filled
            in. CSWin's own by default.
        in_channels (int): Channels of the image.
        mlp_ratio (int): Hidden width of the MLPs over the width.
        qkv_bias (bool): Biases of the query, key and value projections.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of all norms.
        out_indices (int | Sequence[int]): Stages to output; the last one is normed.
        frozen_stages (int): -1 nothing, 0 the patch embedding, ``n`` the first ``n`` stages.
        norm_eval (bool): Keep BatchNorm statistics fixed in training.
        with_cp (bool | str): What to recompute in backward: ``'mlp'``, or ``'all'`` (or True).
        init_cfg (dict, optional): mmengine initialisation.
    """

    zoo = zoo_of('cswin', CSWIN_ARCHS)

    def __init__(
        self,
        arch: str | dict = 'tiny',
        attentions: Sequence[AttentionConfig] | None = None,
        *,
        in_channels: int = 3,
        mlp_ratio: int = 4,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-5,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
    ) -> None:
        arch = find_arch(CSWIN_ARCHS, arch)
        depths = arch['depths']
        widths = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        strides = stage_strides(len(depths))
        super().__init__(widths, strides, out_indices, frozen_stages, norm_eval, init_cfg)
        attentions = stripe_attentions() if attentions is None else attentions
        drop_rates = iter(drop_path_schedule(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList()
        for i, (depth, width) in enumerate(zip(depths, widths)):
            if i == 0:
                patch_embed = CSWinStem(in_channels, width)
            else:
                patch_embed = PatchEmbed(width // 2, width, 3, 2, overlap=True)
            heads = arch['num_heads'][i]
            blocks = [
                TransformerBlock(
                    width, attn, Mlp(width, width * mlp_ratio), next(drop_rates), norm_eps, with_cp
                )
                for attn in build_attentions(attentions[i], depth, width, heads, qkv_bias)
            ]
            norm = nn.LayerNorm(width, eps=norm_eps) if i == len(depths) - 1 else None
            self.stages.append(PyramidStage(patch_embed, blocks, norm))
        self.freeze()


class CSWinStem(PatchEmbed):
    """7x7 convolution of stride 4 with the authors' padding of 2, then LayerNorm.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Width of the tokens.
    """

    def __init__(self, in_channels: int, embed_dims: int) -> None:
        super().__init__(in_channels, embed_dims, 7, 4)
        self.proj.padding = (2, 2)
