from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, TypeVar, cast

from torch import Tensor, nn

from ..layers import ConvMlp, PatchEmbed, TransformerBlock, drop_path_schedule
from ..layers.block import run_blocks
from ..ops import map_to_tokens, tokens_to_map
from ..registry import MODELS, LayerConfig, build_layer
from ..zoo import find_arch
from .base import AttentionConfig, Backbone, build_attentions

NormFactory = Callable[..., nn.Module]
T = TypeVar('T')

PVTV2_STEM = partial(PatchEmbed, patch_size=7, stride=4, padding=3)
PVTV2_DOWNSAMPLE = partial(PatchEmbed, patch_size=3, stride=2, padding=1)


@MODELS.register_module()
class HierarchicalTransformer(Backbone):
    """Hierarchical vision transformer assembled from configurable parts, attention included.

    ::

        image -> stem /4 -> blocks -> downsample /2 -> blocks -> downsample /2 -> ...
                              |                          |
                          output norm -> map         output norm -> map

    ``stem``, ``downsample``, ``block``, ``mlp`` and ``position`` are layer configs: a class, a
    partial, or a dict of ``type`` (a class or, in config files, its name) and options. The defaults
    are PVTv2's.

    Args:
        arch (str | dict): A name of :attr:`archs`, or a dict with one entry per stage of
            ``embed_dims`` (or the first width, doubled at each stage), ``depths``, ``num_heads``
            and, optionally, ``mlp_ratios`` (or one number for all stages).
        attention (dict, optional): Options of the model's attention layer; with a ``type``, the
            config of another layer that replaces it.
        attentions (Sequence[dict | Sequence[dict]], optional): Attention layer of each stage: one
            config for all its blocks, or one per block. Width, number of heads and ``qkv_bias`` are
            filled in.
        in_channels (int): Channels of the image.
        stem (LayerConfig): ``stem(in_channels=, embed_dims=)``, a module that maps images
            ``(B, 3, H, W)`` to tokens ``(B, N, C)`` and their grid, a quarter of the image.
        downsample (LayerConfig): ``downsample(in_channels=, embed_dims=)`` before each later stage:
            a map to tokens and their grid, half of the map.
        block (LayerConfig): ``block(embed_dims=, attn=, mlp=, drop_path=, norm_eps=, with_cp=)``; a
            module of the contract of :class:`~mmeffvit.layers.TransformerBlock`.
        mlp (LayerConfig): ``mlp(embed_dims=, hidden_dims=)``.
        position (LayerConfig | Sequence[LayerConfig | None], optional): ``position(embed_dims=)``
            before the blocks of a stage, ``position(x, grid) -> x``: for all stages, or per stage.
        stage_norm (Callable | Sequence[Callable | None], optional): ``stage_norm(width, eps=)`` at
            the end of a stage, for all stages or per stage; its output is the input of the next
            stage.
        output_norm (Callable, optional): ``output_norm(width, eps=)`` of each output, which the
            next stage does not use.
        mlp_ratio (float): Hidden width of the MLPs over the width, if ``arch`` has no
            ``mlp_ratios``.
        qkv_bias (bool): Biases of the query, key and value projections.
        drop_path_rate (float): Rate of the last block; linear from 0 over all blocks.
        norm_eps (float): Epsilon of block, stage and output norms.
        out_indices (int | Sequence[int]): Stages to output. Stages after the last of them are not
            built.
        frozen_stages (int): -1 nothing, 0 the stem, ``n`` the first ``n`` stages.
        norm_eval (bool): Keep BatchNorm statistics fixed in training.
        with_cp (bool | str): What to recompute in backward, in order of memory saved:
            ``'mlp_tail'`` (only with ``ConvMlp``), ``'mlp'``, ``'all'`` (or True).
        init_cfg (dict, optional): mmengine initialisation.
        pretrained (str, optional): Checkpoint, short for an ``init_cfg`` of type ``Pretrained``.

    Raises:
        ValueError: If settings do not have one entry per stage, an attention list does not have
            one per block, or both ``attention`` and ``attentions`` are given.
    """

    output_layers = ('norms.',)
    depth_patterns: ClassVar[dict[str, str]] = {
        'stem': r'stages\.0\.(?:patch_embed|position)\.',
        'block': r'stages\.(?P<stage>\d+)\.(?:blocks\.(?P<block>\d+)|patch_embed|position)\.',
        'stage_end': r'stages\.(?P<stage>\d+)\.norm\.',
    }

    def __init__(
        self,
        arch: str | dict,
        attention: dict | None = None,
        attentions: Sequence[AttentionConfig] | None = None,
        *,
        in_channels: int = 3,
        stem: LayerConfig = PVTV2_STEM,
        downsample: LayerConfig = PVTV2_DOWNSAMPLE,
        block: LayerConfig = TransformerBlock,
        mlp: LayerConfig = ConvMlp,
        position: LayerConfig | Sequence[LayerConfig | None] | None = None,
        stage_norm: NormFactory | Sequence[NormFactory | None] | None = nn.LayerNorm,
        output_norm: NormFactory | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
        pretrained: str | None = None,
    ) -> None:
        arch = find_arch(self.archs, arch)
        depths, widths = arch['depths'], arch['embed_dims']
        num_stages = len(depths)
        if isinstance(widths, int):
            widths = [widths << stage for stage in range(num_stages)]
        attentions = self.choose_attentions(arch, attention, attentions)
        settings: dict[str, Sequence] = dict(
            embed_dims=widths,
            num_heads=arch['num_heads'],
            attentions=attentions,
            mlp_ratios=_per_stage(arch.get('mlp_ratios', mlp_ratio), num_stages),
            position=_per_stage(position, num_stages),
            stage_norm=_per_stage(stage_norm, num_stages),
        )
        for name, values in settings.items():
            if len(values) != num_stages:
                raise ValueError(f'{name} has {len(values)} entries for {num_stages} stages.')
        if any(isinstance(norm, bool) for norm in settings['stage_norm']):
            raise ValueError(
                f'stage_norm={stage_norm} must be a norm, such as nn.LayerNorm, or None.'
            )
        strides = [4 << stage for stage in range(num_stages)]
        super().__init__(
            widths, strides, out_indices, frozen_stages, norm_eval, init_cfg, pretrained
        )

        drop_rates = iter(drop_path_schedule(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths[: self.out_indices[-1] + 1]):
            width, ratio = widths[i], settings['mlp_ratios'][i]
            patch_embed = build_layer(
                downsample if i else stem,
                in_channels=widths[i - 1] if i else in_channels,
                embed_dims=width,
            )
            attns = build_attentions(attentions[i], depth, width, arch['num_heads'][i], qkv_bias)
            blocks = [
                build_layer(
                    block,
                    embed_dims=width,
                    attn=attn,
                    mlp=build_layer(mlp, embed_dims=width, hidden_dims=round(width * ratio)),
                    drop_path=next(drop_rates),
                    norm_eps=norm_eps,
                    with_cp=with_cp,
                )
                for attn in attns
            ]
            norm, table = settings['stage_norm'][i], settings['position'][i]
            self.stages.append(
                Stage(
                    patch_embed,
                    blocks,
                    None if norm is None else norm(width, eps=norm_eps),
                    None if table is None else build_layer(table, embed_dims=width),
                )
            )
        if output_norm is not None:
            self.norms = nn.ModuleDict(
                {str(i): output_norm(widths[i], eps=norm_eps) for i in self.out_indices}
            )
        self.freeze()

    def default_attentions(self, arch: dict, attention: dict) -> list[AttentionConfig]:
        """Return the layer of ``attention`` for every stage."""
        if 'type' not in attention:
            raise ValueError(
                f'{type(self).__name__} has no default attention; give attention with a type, or '
                'attentions.'
            )
        return [attention] * len(arch['depths'])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images ``(B, in_channels, H, W)`` of any size.

        Returns:
            tuple[Tensor]: Maps ``(B, C_i, H_i, W_i)`` at strides 4, 8, 16, 32 (sides rounded up),
            channels-last in memory, for ``out_indices``.
        """
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(self._output(x, i))
        return tuple(outs)

    def _output(self, x: Tensor, index: int) -> Tensor:
        if not hasattr(self, 'norms'):
            return x
        tokens = self.norms[str(index)](map_to_tokens(x))
        return tokens_to_map(tokens, (x.shape[2], x.shape[3]))

    def stem_modules(self) -> Sequence[nn.Module]:
        """Return the stem."""
        return [cast(Stage, self.stages[0]).patch_embed]

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Return each stage, which includes its downsampling, with its output norm."""
        norms = getattr(self, 'norms', {})
        return [
            [stage, norms[str(i)]] if str(i) in norms else [stage]
            for i, stage in enumerate(self.stages)
        ]

    def blocks_per_stage(self) -> list[int]:
        """Return the number of blocks of each stage that is built."""
        return [len(cast(Stage, stage).blocks) for stage in self.stages]


class Stage(nn.Module):
    """Stage of a hierarchical transformer: downsampling, position embedding, blocks and norm.

    Args:
        patch_embed (nn.Module): The stem or the downsampling: map to tokens and grid.
        blocks (Sequence[nn.Module]): Blocks of the contract ``block(x, grid) -> x``.
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
        (x,) = run_blocks(self.blocks, x, grid)
        if self.norm is not None:
            x = self.norm(x)
        return tokens_to_map(x, grid)


def _per_stage(value: T | Sequence[T], num_stages: int) -> Sequence[T]:
    """Return one value per stage: those given, or a single value repeated."""
    return value if isinstance(value, (list, tuple)) else [cast(T, value)] * num_stages
