"""Plain ViTs of timm and DeiT, and SkipAt of its authors (Qualcomm-AI-research/skip-attention).

The authors' files also hold the norms and attention layers of skipped blocks, which never reach the
output. They name Φ by its place in the chain: ``param_1`` belongs to the first skipped block.
"""

from __future__ import annotations

import re

from .keymap import Drop, KeyMap, Rename, Rule, StateDict
from .pvt import LINEAR_HEAD

#: Skipped blocks of every published model.
SKIPPED = range(3, 9)
_SKIPPED_ATTENTION = rf'blocks\.[{SKIPPED[0]}-{SKIPPED[-1]}]\.(?:norm1|attn)\..+'

_VIT: tuple[Rule, ...] = (
    Rename(r'(cls_token)', r'\1'),
    Rename(r'reg_token', 'registers'),
    Rename(r'pos_embed', 'position.weight'),
    Rename(r'((?:patch_embed\.proj|norm)\..+)', r'\1'),
    Rename(r'(blocks\.\d+\.(?:norm[12]|attn\.(?:qkv|proj)|mlp\.fc[12])\..+)', r'\1'),
    Drop(r'pre_logits\..+', 'the representation layer belongs to the classifier'),
)
_PHI: tuple[Rule, ...] = tuple(
    Rename(rf'param_{place}\.{public}\.(.+)', rf'blocks.{block}.attn.phi.{ours}.\1')
    for place, block in enumerate(SKIPPED, start=1)
    for public, ours in (
        (r'linear1\.0', 'fc1'),
        (r'dwconv\.0', 'dwconv'),
        (r'linear2\.0', 'fc2'),
        (r'eca\.conv', 'eca.conv'),
    )
)


def _vit_config(state: StateDict) -> dict:
    """The host's arguments, read off a converted state; heads are 64 wide as in every size."""
    width, _, _, patch_size = state['patch_embed.proj.weight'].shape
    blocks = [int(match[1]) for key in state if (match := re.match(r'blocks\.(\d+)\.', key))]
    with_cls_token = 'cls_token' in state
    rows = state['position.weight'].shape[1] - with_cls_token
    return dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=width,
            depth=1 + max(blocks),
            num_heads=max(1, width // 64),
            mlp_ratio=len(state['blocks.0.mlp.fc1.bias']) / width,
        ),
        img_size=round(rows**0.5) * patch_size,
        patch_size=patch_size,
        with_cls_token=with_cls_token,
        num_registers=state['registers'].shape[1] if 'registers' in state else 0,
        qkv_bias='blocks.0.attn.qkv.bias' in state,
    )


def _skipat_config(state: StateDict) -> dict:
    return dict(_vit_config(state), type='SkipAtViT', skip_layers=tuple(SKIPPED))


VIT = KeyMap(
    source='timm or DeiT (VisionTransformer)',
    rules=_VIT,
    config=_vit_config,
    head_rules=LINEAR_HEAD,
)

SKIPAT = KeyMap(
    source='the skip-attention repository (Qualcomm-AI-research/skip-attention)',
    rules=(
        Drop(_SKIPPED_ATTENTION, 'a skipped block does not attend; the authors never use it'),
        *_PHI,
        *_VIT,
    ),
    config=_skipat_config,
    head_rules=LINEAR_HEAD,
)

VIT_TO_SKIPAT = KeyMap(
    source=VIT.source,
    rules=(Drop(_SKIPPED_ATTENTION, 'Φ takes the place of this attention layer'), *_VIT),
    config=_skipat_config,
    head_rules=LINEAR_HEAD,
    optional=(r'blocks\.\d+\.attn\.phi\..+',),
)
