"""DualToken-ViT as in the public training code (zzoneee/light_weight_vit)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .keymap import KeyMap, Rename, StateDict, stage_depths


def _in_block(name: str) -> Callable[[re.Match], str]:
    """Target inside a block; in later stages the public entry 0 is the merge, blocks follow."""

    def target(match: re.Match) -> str:
        stage, entry = int(match[1]), int(match[2])
        return f'stages.{stage}.blocks.{entry - (stage > 0)}.{match.expand(name)}'

    return target


def _in_stem(name: str) -> Callable[[re.Match], str]:
    """Target inside the stem, whose public list counts convolution, norm and activation."""
    return lambda match: f'stem.convs.{int(match[1]) // 3}.{match.expand(name)}'


def block_rules(rules: dict[str, str]) -> tuple[Rename, ...]:
    """Rules inside a block, without its prefix; their own groups count from 3."""
    block = r'stages\.(\d+)\.(\d+)\.'
    return tuple(Rename(block + public, _in_block(ours)) for public, ours in rules.items())


def _config(state: StateDict) -> dict:
    depths = stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.')
    first = [f'stages.{i}.blocks.0' for i in range(len(depths))]
    widths = tuple(len(state[f'{block}.norm1.weight']) for block in first)
    hidden = [len(state[f'{block}.mlp.fc1.bias']) for block in first]
    num_heads = max(2, widths[0] // 32)  # of every size in the public code
    arch = dict(
        embed_dims=widths,
        depths=depths,
        num_heads=tuple(num_heads * 2**i for i in range(len(depths))),
        mlp_ratios=tuple(h // width for h, width in zip(hidden, widths)),
    )
    config: dict[str, Any] = dict(type='DualTokenViT', arch=arch)
    if 'global_token' in state:
        num_tokens = state['global_token'].shape[1]
        mixes = len(state[f'{first[-1]}.attn.tokens.mlp.fc2.weight']) == num_tokens
        config['attention'] = dict(
            token_size=round(num_tokens**0.5), token_mlp='mix' if mixes else 'mlp'
        )
    else:
        config['attention'] = dict(token_size=0)
    if 'norm.weight' in state:
        config['out_type'] = 'raw'
    return config


DUALTOKEN = KeyMap(
    source='the light_weight_vit repository (zzoneee/light_weight_vit)',
    rules=(
        Rename(r'global_token', r'global_token'),
        Rename(r'patch_embed\.stem\.(0|3|6|9)\.(.+)', _in_stem(r'conv.\2')),
        Rename(r'patch_embed\.stem\.(1|4|7|10)\.(.+)', _in_stem(r'bn.\2')),
        Rename(r'patch_embed\.((?:proj|norm)\..+)', r'stem.\1'),
        Rename(r'stages\.([12])\.0\.((?:norm|reduction)\..+)', r'stages.\1.merge.merging.\2'),
        Rename(r'stages\.([12])\.0\.res_proj\.(.+)', r'stages.\1.merge.residual.\2'),
        Rename(r'stages\.([12])\.0\.norm2\.(.+)', r'stages.\1.merge.token_norm.\2'),
        Rename(r'stages\.([12])\.0\.proj\.(.+)', r'stages.\1.merge.token_proj.\2'),
        *block_rules(
            {
                r'(norm[12]\..+)': r'\3',
                r'normGT\.(.+)': r'token_norm.\3',
                r'attn\.wsas\.0\.((?:gamma|dwconv|norm).*)': r'attn.local.\3',
                r'attn\.wsas\.0\.pwconv([12])\.(.+)': r'attn.local.fc\3.\4',
                r'attn\.wsas\.1\.dwconv\.(.+)': r'attn.pool.convs.0.\3',
                r'attn\.wsas\.1\.bn1\.(.+)': r'attn.pool.norms.0.\3',
                r'attn\.ga_(qkv\..+)': r'attn.\3',
                r'attn\.gb_((?:q|kv)\..+)': r'attn.\3',
                r'attn\.(proj\..+)': r'attn.\3',
                r'attn\.Global_Proj\.(.+)': r'attn.tokens.mlp.fc1.\3',
                r'attn\.Global_Proj(?:2|_Mix)\.(.+)': r'attn.tokens.mlp.fc2.\3',
                r'(mlp\.fc[12]\..+)': r'\3',
                r'mlp\.attn\.(.+)': r'mlp.\3',
            }
        ),
        Rename(r'(norm\d?\..+)', r'\1'),
    ),
    config=_config,
    head_rules=(
        Rename(r'neck\.0\.(weight|bias)', r'neck.proj.\1'),
        Rename(r'neck\.1\.(weight|bias)', r'neck.norm.\1'),
        Rename(r'head\.(weight|bias)', r'head.fc.\1'),
    ),
    optional=(r'norm\d\..+',),
)
