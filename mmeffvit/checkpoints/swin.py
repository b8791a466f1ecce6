"""Swin Transformers of the authors' repositories, of timm, and of mmpretrain, mmdet and mmseg."""

from __future__ import annotations

import re
from math import isqrt
from typing import Any

from torch import Tensor

from .keymap import Drop, KeyMap, Refuse, Rename, Rule, StateDict, side_of, stage_depths
from .pvt import LINEAR_HEAD

_BLOCK = r'(?:layers|stages)\.(\d)\.blocks\.(\d+)\.'
#: In timm's files merging begins a stage; the last stage of others has none.
LAYOUTS = {'timm': r'layers\.3\.downsample\.reduction\.weight'}
#: Absent in timm's files.
_FIRST_MERGING = 'layers.0.downsample.reduction.weight'


def _next_stage(match: re.Match) -> str:
    """Patch merging ends a stage in most public code and begins one in timm and in ours."""
    return f'stages.{int(match[1]) + 1}.patch_embed.{match[2]}'


def _from_unfold(tensor: Tensor, match: re.Match) -> Tensor:
    """Merged patches are (channel, row, column) in OpenMMLab, (column, row, channel) in Swin."""
    patches = tensor.unflatten(-1, (-1, 2, 2))
    return patches.transpose(-3, -1).flatten(-3)


def swin_rules(attention: tuple[Rename, ...]) -> tuple[Rule, ...]:
    """Rules of the Swin host.

    Args:
        attention (tuple[Rename, ...]): Rules of the attention layer without its prefix; their own
            groups count from 3.
    """
    rules: list[Rule] = [
        Rename(r'patch_embed\.((?:proj|norm)\..+)', r'stages.0.patch_embed.\1'),
        Rename(r'patch_embed\.projection\.(.+)', r'stages.0.patch_embed.proj.\1'),
        Rename(r'absolute_pos_embed', r'stages.0.position.weight'),
        Rename(rf'{_BLOCK}((?:norm[12]|mlp\.fc[12])\..+)', r'stages.\1.blocks.\2.\3'),
        Rename(rf'{_BLOCK}ffn\.layers\.0\.0\.(.+)', r'stages.\1.blocks.\2.mlp.fc1.\3'),
        Rename(rf'{_BLOCK}ffn\.layers\.1\.(.+)', r'stages.\1.blocks.\2.mlp.fc2.\3'),
        Rename(r'layers\.(\d)\.downsample\.(.+)', _next_stage, given=_FIRST_MERGING),
        Rename(r'layers\.(\d)\.downsample\.(.+)', r'stages.\1.patch_embed.\2'),
        Rename(r'stages\.(\d)\.downsample\.(.+)', _next_stage, _from_unfold),
        Rename(r'norm(\d)\.(.+)', r'norms.\1.\2'),
        Rename(r'norm\.(.+)', r'norms.3.\1'),
        Refuse(
            rf'{_BLOCK}attn\.(?:logit_scale|cpb_mlp\..+|[qv]_bias)', 'no cosine attention, SwinV2'
        ),
        Drop(rf'{_BLOCK}attn_mask', 'masks are made for the size at hand'),
        Drop(rf'{_BLOCK}attn\.(?:w_msa\.)?relative_position_index', 'a constant of the layer'),
    ]
    for rule in attention:
        target = rf'stages.\1.blocks.\2.attn.{rule.target}'
        rules.append(Rename(rf'{_BLOCK}attn\.(?:w_msa\.)?{rule.pattern}', target, rule.transform))
    return tuple(rules)


def swin_arch(state: StateDict) -> tuple[dict, list[Tensor]]:
    """The host's arch and the first position table of each stage, off a converted state."""
    depths = stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.')
    name = 'stages.{}.blocks.0.attn.relative_position_bias_table'
    tables = [state[name.format(i)] for i in range(len(depths))]
    arch = dict(
        embed_dims=len(state['stages.0.patch_embed.proj.bias']),
        depths=depths,
        num_heads=tuple(table.shape[1] for table in tables),
    )
    return arch, tables


def window_size_of(table: Tensor) -> int:
    """Side of the window of a position table ``((2w - 1) ** 2, heads)``."""
    return (isqrt(table.shape[0]) + 1) // 2


def position_size_of(state: StateDict) -> dict:
    """The argument for the absolute position table after the stem, if there is one."""
    table = state.get('stages.0.position.weight')
    return {} if table is None else dict(position_size=4 * side_of(table.shape[1]))


def shift_rule_of(state: StateDict, layout: str | None = None, given: str | None = None) -> str:
    """Whose shifts of windows a file was trained with; detectors have norms of all outputs."""
    return given or layout or ('mmdet' if 'norms.0.weight' in state else 'mmpretrain')


def untold_shifts(config: dict) -> list[str]:
    """What to say of the shifts."""
    return [
        f'windows are shifted as in {config["shift_rule"]} where a map fits in one; shift_rule '
        "(--shift-rule) 'mmdet' (mmdet, mmseg), 'mmpretrain' or 'timm' names another"
    ]


def _config(state: StateDict, layout: str | None = None, shift_rule: str | None = None) -> dict:
    arch, tables = swin_arch(state)
    window_size = tuple(window_size_of(table) for table in tables)
    mlp_ratio = len(state['stages.0.blocks.0.mlp.fc1.bias']) / arch['embed_dims']
    config: dict[str, Any] = dict(
        type='SwinTransformer',
        arch=dict(arch, mlp_ratios=mlp_ratio),
        window_size=window_size,
        qkv_bias='stages.0.blocks.0.attn.qkv.bias' in state,
        shift_rule=shift_rule_of(state, layout, shift_rule),
    )
    return {**config, **position_size_of(state)}


#: Classification checkpoints have the norm of the last stage only.
OUTPUT_NORMS = (r'norms\.[0-2]\..+',)

SWIN = KeyMap(
    source="Swin's repositories (microsoft/Swin-Transformer), timm or OpenMMLab",
    rules=swin_rules((Rename(r'((?:qkv|proj)\..+|relative_position_bias_table)', r'\3'),)),
    config=_config,
    head_rules=LINEAR_HEAD,
    optional=OUTPUT_NORMS,
    options=('shift_rule',),
    layouts=LAYOUTS,
    untold=untold_shifts,
)
