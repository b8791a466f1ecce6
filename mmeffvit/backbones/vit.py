from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ..layers import (
    Mlp,
    PatchEmbed,
    PositionEmbedding,
    SoftmaxAttention,
    TransformerBlock,
    drop_path_schedule,
)
from ..layers.block import run_blocks
from ..ops import tokens_to_map
from ..registry import MODELS, LayerConfig, build_layer
from ..zoo import find_arch, zoo_of
from .base import AttentionConfig, Backbone, build_attentions, with_options

#: DeiT (Touvron et al., ICML 2021), table 1, and ViT-L.
VIT_ARCHS = {
    'tiny': dict(embed_dims=192, depth=12, num_heads=3),
    'small': dict(embed_dims=384, depth=12, num_heads=6),
    'base': dict(embed_dims=768, depth=12, num_heads=12),
    'large': dict(embed_dims=1024, depth=24, num_heads=16),
}
OUT_TYPES = ('featmap', 'cls_token', 'avg_featmap', 'distilled')


@MODELS.register_module()
class VisionTransformer(Backbone):
    """Vision Transformer with configurable attention per block.

    The E extra tokens, class token and registers, come first in the sequence: ``N = E + H*W``.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, or a dict of
            ``embed_dims``, ``depth``, ``num_heads`` and, optionally, ``mlp_ratio`` (4).
        attention (dict, optional): Options of :class:`~mmeffvit.layers.SoftmaxAttention`; with a
            ``type``, the config of another layer that replaces it.
        attentions (dict | Sequence[dict], optional): Attention layer: one config for all blocks, or
            one per block. Width, number of heads and ``qkv_bias`` are filled in.
        img_size (int | tuple[int, int]): Image ``(H, W)`` of the position embedding, which is
            interpolated to the grid of every input.
        patch_size (int): Side of a patch in pixels. Images are padded by zeros at the bottom and
            right to whole patches.
        in_channels (int): Channels of the image.
        with_cls_token (bool): Whether there is a class token, which has a position embedding too.
        num_registers (int): Number of register tokens after the class token, without position
            embedding.
        out_type (str): ``'featmap'``: maps; ``'cls_token'`` and ``'avg_featmap'``: vectors
            ``(B, C)`` for classifiers; ``'distilled'``: pairs of the class token and the first
            register, DeiT's distillation token, for mmpretrain's ``DeiTClsHead``.
        pre_norm (bool): Whether a LayerNorm precedes the first block, as in CLIP.
        final_norm (bool): Whether a LayerNorm follows the last block.
        layer_scale (float, optional): Initial value of a learned scale per channel on both branches
            of a block (DeiT III, DINOv2); None for none.
        position_resize (str): How the position table is interpolated, one of
            :data:`~mmeffvit.ops.resize.INTERPOLATIONS`: ``'bicubic'`` as in mmpretrain and mmseg,
            ``'timm'`` as there and in DINOv2 with registers, ``'dino'`` as in DINO and DINOv2.
        mlp (LayerConfig): ``mlp(embed_dims=, hidden_dims=)``, the feed-forward network of a block.
        qkv_bias (bool): Biases of the query, key and value projections.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of all norms.
        out_indices (int | Sequence[int]): Blocks to output. Blocks after the last of them are not
            built.
        frozen_stages (int): -1 nothing, 0 patch, position and extra tokens, ``n`` also the first
            ``n`` blocks.
        with_cp (bool | str): What to recompute in backward: ``'mlp'``, or ``'all'`` (or True).
        init_cfg (dict, optional): mmengine initialisation.
        pretrained (str, optional): Checkpoint, short for an ``init_cfg`` of type ``Pretrained``.

    Raises:
        ValueError: If ``out_type`` is not one of the allowed values or needs a class token that
            does not exist, or both ``attention`` and ``attentions`` are given.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021); initialisation as in
    DeiT. Registers: Darcet et al., "Vision Transformers Need Registers" (ICLR 2024).
    """

    archs = VIT_ARCHS
    zoo = zoo_of('vit', VIT_ARCHS)
    depth_patterns: ClassVar[dict[str, str]] = {
        'stem': r'(?:patch_embed|position|norm_pre)\.|(?:cls_token|registers)$',
        'block': r'blocks\.(?P<block>\d+)\.',
    }

    def __init__(
        self,
        arch: str | dict = 'small',
        attention: dict | None = None,
        attentions: AttentionConfig | None = None,
        *,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        with_cls_token: bool = True,
        num_registers: int = 0,
        out_type: str = 'featmap',
        pre_norm: bool = False,
        final_norm: bool = True,
        layer_scale: float | None = None,
        position_resize: str = 'bicubic',
        mlp: LayerConfig = Mlp,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
        pretrained: str | None = None,
    ) -> None:
        arch = {'mlp_ratio': 4, **find_arch(self.archs, arch)}
        embed_dims, depth = arch['embed_dims'], arch['depth']
        widths, strides = [embed_dims] * depth, [patch_size] * depth
        chosen = self.choose_attentions(arch, attention, cast(Any, attentions))
        super().__init__(
            widths, strides, out_indices, frozen_stages, init_cfg=init_cfg, pretrained=pretrained
        )
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} must be one of {OUT_TYPES}.')
        if out_type == 'cls_token' and not with_cls_token:
            raise ValueError("out_type='cls_token' needs with_cls_token=True.")
        if out_type == 'distilled' and not (with_cls_token and num_registers):
            raise ValueError("out_type='distilled' needs with_cls_token=True and num_registers=1.")
        self.out_type = out_type
        self.num_extra_tokens = int(with_cls_token) + num_registers

        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch_size, patch_size, norm=False)
        self.patch_embed.proj.reset_parameters()  # as in DeiT
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        table_grid = (-(-height // patch_size), -(-width // patch_size))
        self.position = PositionEmbedding(
            embed_dims, table_grid, position_resize, num_extra_tokens=int(with_cls_token)
        )
        self.cls_token = _tokens(1, embed_dims) if with_cls_token else None
        self.registers = _tokens(num_registers, embed_dims) if num_registers else None
        self.norm_pre = nn.LayerNorm(embed_dims, eps=norm_eps) if pre_norm else nn.Identity()
        drop_rates = drop_path_schedule(drop_path_rate, depth)
        attns = build_attentions(
            cast(AttentionConfig, chosen),
            depth,
            embed_dims,
            arch['num_heads'],
            qkv_bias,
            self.out_indices[-1] + 1,
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(
                embed_dims,
                attn,
                build_layer(
                    mlp, embed_dims=embed_dims, hidden_dims=round(embed_dims * arch['mlp_ratio'])
                ),
                drop_rate,
                norm_eps,
                with_cp,
                layer_scale,
            )
            for attn, drop_rate in zip(attns, drop_rates)
        )
        ends = len(self.blocks) == depth
        self.norm = nn.LayerNorm(embed_dims, eps=norm_eps) if final_norm and ends else nn.Identity()
        self.depth = depth
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images ``(B, in_channels, H, W)`` of any size.

        Returns:
            tuple[Tensor]: For each of ``out_indices`` a map ``(B, C, H', W')`` at stride
            ``patch_size`` (sides rounded up), channels-last in memory; or a vector ``(B, C)``.
        """
        x, grid = self.patch_embed(x)
        x = self.norm_pre(self._embed(x, grid))
        outs = run_blocks(self.blocks, x, grid, self.out_indices)
        if self.out_indices[-1] == self.depth - 1:
            outs[-1] = self.norm(outs[-1])
        return tuple(self._output(out, grid) for out in outs)

    def _embed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Add the position embedding and prepend the class token and the registers."""
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.position(x, grid)
        if self.registers is None:
            return x
        registers = self.registers.expand(x.shape[0], -1, -1)
        cls_rows = self.num_extra_tokens - registers.shape[1]
        return torch.cat([x[:, :cls_rows], registers, x[:, cls_rows:]], dim=1)

    def _output(self, x: Tensor, grid: tuple[int, int]) -> Any:
        if self.out_type == 'distilled':
            return x[:, 0], x[:, 1]
        if self.out_type == 'cls_token':
            return x[:, 0]
        patches = x[:, self.num_extra_tokens :]
        return patches.mean(1) if self.out_type == 'avg_featmap' else tokens_to_map(patches, grid)

    def stem_modules(self) -> Sequence[nn.Module | nn.Parameter]:
        """Return the patch and position embedding, extra tokens and the norm after them."""
        tokens = [token for token in (self.cls_token, self.registers) if token is not None]
        return [self.patch_embed, self.position, *tokens, self.norm_pre]

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Return each block as a stage; the final norm belongs to the last."""
        stages = [[block] for block in self.blocks]
        stages[-1].append(self.norm)
        return stages

    def default_attentions(self, arch: dict, attention: dict) -> list[dict]:
        """Return softmax attention for every block."""
        return [with_options(dict(type=SoftmaxAttention), attention)] * arch['depth']

    def blocks_per_stage(self) -> list[int]:
        """Return the number of blocks that are built."""
        return [len(self.blocks)]

    def is_left_out(self, name: str) -> bool:
        """Return whether a parameter belongs to a layer that is not built for ``out_indices``."""
        ended = len(self.blocks) == self.depth
        return super().is_left_out(name) or (not ended and name.startswith('norm.'))


def _tokens(count: int, embed_dims: int) -> nn.Parameter:
    tokens = nn.Parameter(torch.zeros(1, count, embed_dims))
    nn.init.trunc_normal_(tokens, std=0.02)
    return tokens
