"""Neighborhood Attention Transformers of the authors' repository, NAT and DiNAT."""

from __future__ import annotations

from functools import partial
from typing import Any

from .keymap import KeyMap, Rename, StateDict, stage_depths
from .pvt import LINEAR_HEAD
from .swin import OUTPUT_NORMS

_BLOCK = r'levels\.(\d)\.blocks\.(\d+)\.'


def nat_arch(state: StateDict) -> dict:
    """The arch of NAT, or of Slide-NAT, off a converted state."""
    depths = stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.')
    heads, ratios = [], []
    for stage in range(len(depths)):
        block = f'stages.{stage}.blocks.0.'
        slide = f'{block}attn.relative_position_bias_table'
        heads.append(state[slide].shape[1] if slide in state else len(state[f'{block}attn.rpb']))
        hidden, width = state[f'{block}mlp.fc1.weight'].shape
        ratios.append(hidden / width)
    arch: dict[str, Any] = dict(
        embed_dims=len(state['stages.0.patch_embed.norm.weight']),
        depths=depths,
        num_heads=tuple(heads),
        mlp_ratios=tuple(ratios),
    )
    if 'stages.0.blocks.0.scale1.weight' in state:
        arch['layer_scale'] = 1e-5
    return arch


def _config(state: StateDict, name: str) -> dict:
    kernel_size = (state['stages.0.blocks.0.attn.rpb'].shape[-1] + 1) // 2
    return dict(type=name, arch=nat_arch(state), attention=dict(kernel_size=kernel_size))


NAT = KeyMap(
    source='the NAT repository (SHI-Labs/Neighborhood-Attention-Transformer)',
    rules=(
        Rename(r'patch_embed\.((?:proj\.[01]|norm)\..+)', r'stages.0.patch_embed.\1'),
        Rename(
            rf'{_BLOCK}((?:norm[12]|mlp\.fc[12]|attn\.qkv|attn\.proj)\..+|attn\.rpb)',
            r'stages.\1.blocks.\2.\3',
        ),
        Rename(rf'{_BLOCK}gamma([12])', r'stages.\1.blocks.\2.scale\3.weight'),
        Rename(
            r'levels\.(\d)\.downsample\.(.+)',
            lambda match: f'stages.{int(match[1]) + 1}.patch_embed.{match[2]}',
        ),
        Rename(r'norm(\d)\.(.+)', r'norms.\1.\2'),
        Rename(r'norm\.(.+)', r'norms.3.\1'),
    ),
    config=partial(_config, name='NAT'),
    head_rules=LINEAR_HEAD,
    optional=OUTPUT_NORMS,
)
#: Files do not hold the dilations; other than the default ones are given by the config.
DINAT = KeyMap(NAT.source, NAT.rules, partial(_config, name='DiNAT'), NAT.head_rules, NAT.optional)
