"""LookupViT, of which no weights are published: a start from a plain ViT."""

from __future__ import annotations

import re
from math import isqrt

import torch
from torch import Tensor

from .keymap import Drop, KeyMap, Rename, StateDict
from .vit import FINAL_NORM, PROJ, QKV, VIT, vit_arch, vit_rules, with_patch_bias

_REFINE = 'refine.'


def _with_parts(fused: Tensor, match: re.Match) -> tuple[Tensor, ...]:
    return fused, *fused.chunk(3)


def _start_small(state: StateDict) -> StateDict:
    """What is infused into the lookup tokens starts at a tenth of its size (our choice)."""
    state = with_patch_bias(state)
    extra = sum(state.pop(f'{name}_token', None) is not None for name in ('cls', 'dist'))
    rows = state['position.weight'].shape[1]
    if isqrt(rows) ** 2 != rows:  # else the table has no rows of such tokens
        state['position.weight'] = state['position.weight'][:, extra:].clone()
    for name in [name for name in state if name.endswith('.refine.norm1.weight')]:
        gain = name.replace('refine.norm1', 'infuse.norm_v')
        state[gain] = torch.full_like(state[name], 0.1)
    return state


#: The ViT refines the compressed tokens; gathering starts with the same projections.
VIT_TO_LOOKUPVIT = KeyMap(
    source=VIT.source,
    rules=(
        Rename(r'(cls_token|dist_token)', r'\1'),  # left out when their positions are
        Drop(r'reg_token', 'there are no such tokens'),
        Drop(FINAL_NORM, 'both token sets have final norms of their own'),
        Drop(r'head(?:_dist)?\..+', 'the classifiers read both token sets'),
        Rename(r'pos_embed', 'position.weight'),
        Rename(
            QKV,
            (r'blocks.\1.refine.attn.qkv.\2', *(rf'blocks.\1.gather.{x}.\2' for x in 'qkv')),
            _with_parts,
        ),
        Rename(
            PROJ,
            (r'blocks.\1.refine.attn.proj.\2', r'blocks.\1.gather.proj.\2'),
            lambda tensor, match: (tensor, tensor),
        ),
        *vit_rules(_REFINE),
    ),
    config=lambda state: dict(type='LookupViT', **vit_arch(state, _REFINE)),
    optional=(
        r'blocks\.\d+\.(?:gather\.norm_[qk]|infuse|norm|mlp)\..+',
        r'norm_lookup\..+',
    ),
    finish=_start_small,
)
