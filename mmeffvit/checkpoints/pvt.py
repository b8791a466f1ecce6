"""PVT, PVTv2 and MiT of the authors, timm, mmdet and mmseg; rules that other families share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

from torch import Tensor

from .keymap import (
    Drop,
    KeyMap,
    NotSquareError,
    Refuse,
    Rename,
    Rule,
    StateDict,
    UnknownArchitectureError,
    check_heads,
    side_of,
    stage_depths,
    to_linear,
)

#: Linear classifier of the field, to mmpretrain's ``LinearClsHead``.
LINEAR_HEAD = (Rename(r'head\.(?:fc\.)?(weight|bias)', r'head.fc.\1'),)


def pyramid_rules(attention: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Rules of the pyramid host.

    Its public names are ``patch_embed2``, ``block2.0``, ``norm2``, in timm ``stages.1.downsample``,
    ``stages.1.blocks.0``, ``stages.1.norm``.

    Args:
        attention (tuple[Rule, ...]): Rules of the attention layer, without its prefix; their own
            groups count from 2.
    """
    rules: list[Rule] = []
    for stage in range(4):
        public = rf'(?:block{stage + 1}|stages\.{stage}\.blocks)\.(\d+)'
        ours = rf'stages.{stage}.blocks.\1'
        in_timm = rf'stages\.{stage}\.downsample' if stage else 'patch_embed'
        rules += [
            Rename(
                rf'(?:patch_embed{stage + 1}|{in_timm})\.(.+)', rf'stages.{stage}.patch_embed.\1'
            ),
            Rename(rf'(?:norm{stage + 1}|stages\.{stage}\.norm)\.(.+)', rf'stages.{stage}.norm.\1'),
            Rename(rf'{public}\.(norm[12]\..+)', rf'{ours}.\2'),
            Rename(rf'{public}\.mlp\.dwconv\.(?:dwconv\.)?(.+)', rf'{ours}.mlp.dwconv.\2'),
            Rename(rf'{public}\.(mlp\.fc[12]\..+)', rf'{ours}.\2'),
        ]
        for rule in attention:
            pattern = rf'{public}\.attn\.{rule.pattern}'
            if isinstance(rule, Drop):
                rules.append(Drop(pattern, rule.reason))
            elif isinstance(rule, Rename):
                rules.append(Rename(pattern, rf'{ours}.attn.{rule.target}', rule.transform))
            else:
                rules.append(Refuse(pattern, rule.missing))
    return tuple(rules)


def pyramid_arch(state: StateDict, num_heads: Sequence[int] | None = None) -> dict:
    """The host's arch, read off a converted state.

    The heads are 1, 2, 5 and 8 in every published size, whose widths have these proportions.

    Args:
        state (dict[str, Tensor]): The converted state.
        num_heads (Sequence[int], optional): Heads of each stage.

    Raises:
        UnknownArchitectureError: If the widths have others and no heads are given, as no tensor
            tells them then.
    """
    depths = stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.')
    widths = [state[f'stages.{i}.patch_embed.proj.bias'] for i in range(len(depths))]
    hidden = [state[f'stages.{i}.blocks.0.mlp.fc1.bias'] for i in range(len(depths))]
    embed_dims = tuple(len(width) for width in widths)
    if num_heads is not None:
        num_heads = check_heads(num_heads, embed_dims)
    else:
        num_heads = (1, 2, 5, 8)[: len(depths)]
        if embed_dims != tuple(embed_dims[0] * heads for heads in num_heads):
            raise UnknownArchitectureError(
                f'No tensor tells the heads of a pyramid of widths {embed_dims}, which no '
                'published size has: give those of each stage as num_heads (--num-heads).'
            )
    return dict(
        embed_dims=embed_dims,
        depths=depths,
        num_heads=num_heads,
        mlp_ratios=tuple(len(h) // len(w) for h, w in zip(hidden, widths)),
    )


def without_class_token(table: Tensor, match: re.Match) -> Tensor:
    """The rows of a square grid, the last ones of a position table."""
    rows = table.shape[1]
    side = isqrt(rows)
    if rows - side * side > 1:
        raise NotSquareError(f'A position table has {rows} rows, which are no square grid.')
    return table[:, rows - side * side :]


def _split_qkv(fused: Tensor, match: re.Match) -> tuple[Tensor, Tensor]:
    """Queries, and keys with values, of PyTorch's ``in_proj``."""
    width = fused.shape[0] // 3
    return fused[:width], fused[width:]


def openmmlab_rules(first: int, given: str | None = None) -> tuple[Rename, ...]:
    """Rules of mmdet's PVTs and mmseg's MiT, ``layers.STAGE.(0 embedding, 1 blocks, 2 norm)``.

    Args:
        first (int): Number of the first block; 1 where a position table precedes the blocks.
        given (str, optional): A public key that files of this kind have.
    """

    def to(name: str) -> Callable[[re.Match], str]:
        return lambda match: f'stages.{match[1]}.blocks.{int(match[2]) - first}.{name}.{match[3]}'

    def to_split(match: re.Match) -> list[str]:
        return [to(f'attn.{name}')(match) for name in ('q', 'kv')]

    block = r'layers\.(\d)\.1\.(\d+)\.'
    return (
        Rename(r'layers\.(\d)\.0\.projection\.(.+)', r'stages.\1.patch_embed.proj.\2'),
        Rename(r'layers\.(\d)\.0\.norm\.(.+)', r'stages.\1.patch_embed.norm.\2'),
        Rename(r'layers\.(\d)\.2\.(.+)', r'stages.\1.norm.\2'),
        Rename(r'layers\.(\d)\.1\.0\.pos_embed', r'stages.\1.position.weight'),
        Rename(rf'{block}attn\.attn\.in_proj_(weight|bias)', to_split, _split_qkv, given=given),
        *(
            Rename(rf'{block}{public}\.(.+)', to(ours), transform, given=given)
            for public, ours, transform in (
                ('norm1', 'norm1', None),
                ('norm2', 'norm2', None),
                (r'attn\.attn\.out_proj', 'attn.proj', None),
                (r'attn\.sr', 'attn.sr', None),
                (r'attn\.norm', 'attn.norm', None),
                (r'ffn\.layers\.0', 'mlp.fc1', to_linear),
                (r'ffn\.layers\.1', 'mlp.dwconv', None),
                (r'ffn\.layers\.[34]', 'mlp.fc2', to_linear),
            )
        ),
    )


_FIRST_TABLE = 'layers.0.1.0.pos_embed'
LAYOUTS = {'openmmlab': r'layers\.0\.0\.projection\.weight'}
#: All norms have one epsilon in mmdet and mmseg; in the authors' code and timm's these have 1e-5.
_OPENMMLAB_EPS = dict(norm_eps=1e-6)


def pvt_positions(state: StateDict) -> dict:
    """The image side of the first position table."""
    table = state.get('stages.0.position.weight')
    return dict(position_size=None if table is None else 4 * side_of(table.shape[1]))


def _embeddings(state: StateDict) -> dict:
    """Stem and downsampling with mmdet's and mmseg's epsilon."""
    parts = {}
    for name, stage, stride in (('stem', 0, 4), ('downsample', 1, 2)):
        size = state[f'stages.{stage}.patch_embed.proj.weight'].shape[-1]
        padding = size // 2 if size > stride else 0
        sizes = dict(patch_size=size, stride=stride, padding=padding)
        parts[name] = dict(type='PatchEmbed', **sizes, **_OPENMMLAB_EPS)
    return parts


def _pvtv2_config(state: StateDict, layout: str | None = None, **options) -> dict:
    config: dict[str, Any] = dict(type='PVTv2', arch=pyramid_arch(state, **options))
    if layout == 'openmmlab':
        config.update(_embeddings(state), attention=dict(_OPENMMLAB_EPS))
    last = len(config['arch']['depths']) - 1
    if f'stages.{last}.blocks.0.attn.sr.weight' in state:  # PVTv2-Li pools in every stage
        config.update(
            attention=dict(type='LinearSpatialReductionAttention'),
            mlp=dict(type='ConvMlp', relu=True),
        )
    return config


def _pvt_config(state: StateDict, layout: str | None = None, **options) -> dict:
    config = dict(type='PVT', arch=pyramid_arch(state, **options), **pvt_positions(state))
    if layout == 'openmmlab':
        config.update(_embeddings(state), attention=dict(_OPENMMLAB_EPS))
    return config


_SPATIAL_REDUCTION = pyramid_rules((Rename(r'((?:q|kv|proj|sr|norm)\..+)', r'\2'),))

PVTV2 = KeyMap(
    source='the PVT (v2) or SegFormer repository (whai362/PVT, NVlabs/SegFormer), timm or mmdet',
    rules=(*openmmlab_rules(0), *_SPATIAL_REDUCTION),
    config=_pvtv2_config,
    head_rules=LINEAR_HEAD,
    options=('num_heads',),
    layouts=LAYOUTS,
)

PVT = KeyMap(
    source='the PVT repository (whai362/PVT, v1) or mmdet',
    rules=(
        *(
            Rename(rf'pos_embed{i + 1}', f'stages.{i}.position.weight', without_class_token)
            for i in range(4)
        ),
        Drop(r'cls_token', 'the dense backbone has no class token'),
        Drop(r'norm\..+', 'the final norm belongs to the class token'),
        Drop(r'head\..+', 'the classifier reads the class token'),
        *openmmlab_rules(1, given=_FIRST_TABLE),
        *openmmlab_rules(0),
        *_SPATIAL_REDUCTION,
    ),
    config=_pvt_config,
    options=('num_heads',),
    layouts=LAYOUTS,
)
