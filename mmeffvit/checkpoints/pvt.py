"""PVT and PVTv2 of the authors and of timm, and the host's rules that other families share."""

from __future__ import annotations

import re
from math import isqrt

from torch import Tensor

from .keymap import Drop, KeyMap, NotSquareError, Rename, Rule, StateDict, stage_depths

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
            else:
                rules.append(Rename(pattern, rf'{ours}.attn.{rule.target}', rule.transform))
    return tuple(rules)


def pyramid_arch(state: StateDict) -> dict:
    """The host's arch, read off a converted state; the heads are those of every published size."""
    depths = stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.')
    widths = [state[f'stages.{i}.patch_embed.proj.bias'] for i in range(len(depths))]
    hidden = [state[f'stages.{i}.blocks.0.mlp.fc1.bias'] for i in range(len(depths))]
    return dict(
        embed_dims=tuple(len(width) for width in widths),
        depths=depths,
        num_heads=(1, 2, 5, 8),
        mlp_ratios=tuple(len(h) // len(w) for h, w in zip(hidden, widths)),
    )


def without_class_token(table: Tensor, match: re.Match) -> Tensor:
    """The rows of a square grid, the last ones of a position table."""
    rows = table.shape[1]
    side = isqrt(rows)
    if rows - side * side > 1:
        raise NotSquareError(f'A position table has {rows} rows, which are no square grid.')
    return table[:, rows - side * side :]


_SPATIAL_REDUCTION = pyramid_rules((Rename(r'((?:q|kv|proj|sr|norm)\..+)', r'\2'),))

PVTV2 = KeyMap(
    source='the PVT repository (whai362/PVT, v2) or timm',
    rules=_SPATIAL_REDUCTION,
    config=lambda state: dict(type='PVTv2', arch=pyramid_arch(state)),
    head_rules=LINEAR_HEAD,
)

PVT = KeyMap(
    source='the PVT repository (whai362/PVT, v1)',
    rules=(
        *(
            Rename(rf'pos_embed{i + 1}', f'stages.{i}.position.weight', without_class_token)
            for i in range(4)
        ),
        Drop(r'cls_token', 'the dense backbone has no class token'),
        Drop(r'norm\..+', 'the final norm belongs to the class token'),
        Drop(r'head\..+', 'the classifier reads the class token'),
        *_SPATIAL_REDUCTION,
    ),
    config=lambda state: dict(type='PVT', arch=pyramid_arch(state)),
)
