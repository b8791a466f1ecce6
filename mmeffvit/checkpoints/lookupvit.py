"""LookupViT, of which no weights are published: a start from a plain ViT."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from .keymap import Drop, KeyMap, Rename, StateDict
from .pvt import without_class_token
from .vit import FINAL_NORM, PROJ, QKV, VIT, vit_arch, vit_rules, with_patch_bias

_REFINE = 'refine.'


def _with_parts(fused: Tensor, match: re.Match) -> tuple[Tensor, ...]:
    return fused, *fused.chunk(3)


def _start_small(state: StateDict) -> StateDict:
    """What is infused into the lookup tokens starts at a tenth of its size (our choice)."""
    arch = vit_arch(state, _REFINE)['arch']
    names = [f'blocks.{i}.infuse.norm_v.weight' for i in range(arch['depth'])]
    gains = {name: torch.full((arch['embed_dims'],), 0.1) for name in names}
    return {**with_patch_bias(state), **gains}


#: The ViT refines the compressed tokens; gathering starts with the same projections.
VIT_TO_LOOKUPVIT = KeyMap(
    source=VIT.source,
    rules=(
        Drop(r'cls_token|reg_token', 'there are no such tokens'),
        Drop(FINAL_NORM, 'both token sets have final norms of their own'),
        Drop(r'head\..+', 'the classifiers read both token sets'),
        Rename(r'pos_embed', 'position.weight', without_class_token),
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
