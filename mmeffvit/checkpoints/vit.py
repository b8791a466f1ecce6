"""Plain ViTs of timm, DeiT, mmpretrain and mmseg."""

from __future__ import annotations

import re

import torch

from .keymap import Drop, KeyMap, Rename, Rule, StateDict, side_of
from .pvt import LINEAR_HEAD

_BLOCK = r'(?:blocks|layers)\.(\d+)\.'
QKV = rf'{_BLOCK}attn\.(?:qkv\.|attn\.in_proj_)(weight|bias)'
PROJ = rf'{_BLOCK}attn\.(?:proj|attn\.out_proj)\.(weight|bias)'
FINAL_NORM = r'(?:norm|ln1)\.(weight|bias)'


def vit_rules(inner: str = '') -> tuple[Rule, ...]:
    """Rules of the patch embedding and the blocks.

    Args:
        inner (str): Where in a block of ours the ViT's layers are, with a dot at its end.
    """
    ours = rf'blocks.\1.{inner}'
    return (
        Rename(r'patch_embed\.proj(?:ection)?\.(.+)', r'patch_embed.proj.\1'),
        Rename(rf'{_BLOCK}(?:norm|ln)([12])\.(.+)', rf'{ours}norm\2.\3'),
        Rename(QKV, rf'{ours}attn.qkv.\2'),
        Rename(PROJ, rf'{ours}attn.proj.\2'),
        Rename(rf'{_BLOCK}(?:mlp\.fc1|ffn\.layers\.0\.0)\.(.+)', rf'{ours}mlp.fc1.\2'),
        Rename(rf'{_BLOCK}(?:mlp\.fc2|ffn\.layers\.1)\.(.+)', rf'{ours}mlp.fc2.\2'),
        Drop(r'pre_logits\..+', 'the representation layer belongs to the classifier'),
    )


def vit_arch(state: StateDict, inner: str = '') -> dict:
    """The host's ``arch`` and sizes, read off a converted state; heads are 64 wide in every size.

    Args:
        state (dict[str, Tensor]): The converted state.
        inner (str): As in :func:`vit_rules`.
    """
    width, _, _, patch_size = state['patch_embed.proj.weight'].shape
    blocks = [int(match[1]) for key in state if (match := re.match(r'blocks\.(\d+)\.', key))]
    rows = state['position.weight'].shape[1] - ('cls_token' in state)
    return dict(
        arch=dict(
            embed_dims=width,
            depth=1 + max(blocks),
            num_heads=max(1, width // 64),
            mlp_ratio=len(state[f'blocks.0.{inner}mlp.fc1.bias']) / width,
        ),
        img_size=side_of(rows) * patch_size,
        patch_size=patch_size,
        qkv_bias=f'blocks.0.{inner}attn.qkv.bias' in state,
    )


def vit_config(state: StateDict) -> dict:
    """The host's arguments, read off a converted state."""
    return dict(
        type='VisionTransformer',
        **vit_arch(state),
        with_cls_token='cls_token' in state,
        num_registers=state['registers'].shape[1] if 'registers' in state else 0,
        final_norm='norm.weight' in state,
    )


def finish(state: StateDict) -> StateDict:
    """The state with a patch bias and without a distillation token.

    DeiT adds a position to its distillation token; both are constants, so their sum is a register.
    """
    state = with_patch_bias(state)
    token = state.pop('dist_token', None)
    if token is not None:
        cls_row, own_row, patches = state['position.weight'].split(
            [1, 1, state['position.weight'].shape[1] - 2], dim=1
        )
        state['registers'] = token + own_row
        state['position.weight'] = torch.cat([cls_row, patches], dim=1)
    return state


def with_patch_bias(state: StateDict) -> StateDict:
    """The state with a zero bias of the patch embedding, which has none in mmseg."""
    weight = state['patch_embed.proj.weight']
    return {'patch_embed.proj.bias': weight.new_zeros(len(weight)), **state}


VIT = KeyMap(
    source='timm, DeiT, mmpretrain or mmseg (VisionTransformer)',
    rules=(
        Rename(r'(cls_token)', r'\1'),
        Rename(r'reg_token', 'registers'),
        Rename(r'dist_token', 'dist_token'),
        Drop(r'head_dist\..+', 'our classifier has one head; DeiT averages two'),
        Rename(r'pos_embed', 'position.weight'),
        Rename(FINAL_NORM, r'norm.\1'),
        *vit_rules(),
    ),
    config=vit_config,
    head_rules=LINEAR_HEAD,
    finish=finish,
)
