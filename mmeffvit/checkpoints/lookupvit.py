"""LookupViT, of which no weights are published: a start from a plain ViT."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from .keymap import Drop, KeyMap, Rename, StateDict
from .vit import FINAL_NORM, PROJ, QKV, VIT, find_grid, vit_arch, vit_rules, with_patch_bias

_REFINE = 'refine.'


def _with_parts(fused: Tensor, match: re.Match) -> tuple[Tensor, ...]:
    return fused, *fused.chunk(3)


def _config(state: StateDict, **options) -> dict:
    return dict(type='LookupViT', **vit_arch(state, _REFINE, **options))


def _start_small(state: StateDict, **options) -> StateDict:
    """What is infused into the lookup tokens starts at a tenth of its size (our choice)."""
    table, patch_size = state['position.weight'], state['patch_embed.proj.weight'].shape[-1]
    state = dict(state)
    tokens = [state.pop(name, None) for name in ('cls_token', 'distillation', 'registers')]
    first, second, registers = (0 if token is None else token.shape[1] for token in tokens)
    extras = [first + second, 0, first + second + registers]
    height, width = find_grid(table.shape[1], extras, patch_size, options.get('image_size'))
    state = {**state, 'position.weight': table[:, table.shape[1] - height * width :].clone()}
    norms = [key for key in state if re.fullmatch(r'blocks\.\d+\.refine\.norm1\.weight', key)]
    gains = {
        key.replace('refine.norm1', 'infuse.norm_v'): torch.full_like(state[key], 0.1)
        for key in norms
    }
    return {**with_patch_bias(state), **gains}


#: The ViT refines the compressed tokens; gathering starts with the same projections.
VIT_TO_LOOKUPVIT = KeyMap(
    source=VIT.source,
    rules=(
        # Left out when their positions are.
        Rename(r'(cls_token)', r'\1'),
        Rename(r'dist_token', 'distillation'),
        Rename(r'reg(?:ister)?_tokens?', 'registers'),
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
    config=_config,
    optional=(
        r'blocks\.\d+\.(?:gather\.norm_[qk]|infuse|norm|mlp)\..+',
        r'norm_lookup\..+',
    ),
    finish=_start_small,
    options=('num_heads', 'image_size'),
)
