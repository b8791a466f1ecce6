"""A trained :class:`UniFormerUNet` as the start of one that reuses attention."""

from __future__ import annotations

import re

from torch import Tensor

from .keymap import KeyMap, Rename, StateDict, stage_depths


def _values(weight: Tensor, match: re.Match) -> Tensor:
    """The value rows of a fused query, key and value projection."""
    return weight.chunk(3)[2]


def _config(state: StateDict) -> dict:
    depths = stage_depths(state, r'encoder\.(\d)\.(\d+)\.')
    first = range(len(depths))
    return dict(
        type='SkipUniFormerUNet',
        embed_dims=tuple(len(state[f'encoder.{scale}.0.pos_embed.bias']) for scale in first),
        depths=depths,
        kinds=tuple(
            'global' if f'encoder.{scale}.0.attn.proj.weight' in state else 'local'
            for scale in first
        ),
        norm='batch' if 'encoder.0.0.norm1.running_mean' in state else 'group',
    )


UNIFORMER_SKIPAT = KeyMap(
    source='UniFormerUNet of this package',
    rules=(
        Rename(r'(decoder\.\d\.\d+\.attn)\.qkv\.(weight|bias)', r'\1.v.\2', _values),
        Rename(r'((?:stem|encoder|decoder|downs|ups|fuses|head)\..+)', r'\1'),
    ),
    config=_config,
)
