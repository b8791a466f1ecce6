"""LightViT as in the authors' repository (hunto/LightViT): classifiers and detectors.

Stem, merging and the gated MLP have the names of DualToken-ViT, which is built on this code.
"""

from __future__ import annotations

from .dualtoken import DUALTOKEN, block_rules
from .keymap import Drop, KeyMap, StateDict, stage_depths
from .swin import window_size_of


def _config(state: StateDict) -> dict:
    depths = stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.')
    first = [f'stages.{i}.blocks.0' for i in range(len(depths))]
    tables = [state[f'{block}.attn.relative_position_bias_table'] for block in first]
    arch = dict(
        embed_dims=tuple(len(state[f'{block}.norm1.weight']) for block in first),
        depths=depths,
        num_heads=tuple(table.shape[1] for table in tables),
        num_tokens=state['global_token'].shape[1],
    )
    config = dict(type='LightViT', arch=arch, attention=dict(window_size=window_size_of(tables[0])))
    if 'norm.weight' in state:
        config['out_type'] = 'raw'
    return config


LIGHTVIT = KeyMap(
    source='the LightViT repository (hunto/LightViT)',
    rules=(
        Drop(r'.+\.attn\.relative_position_index', 'a constant of the layer'),
        *block_rules(
            {
                r'attn\.((?:qkv|kv_global)\..+)': r'attn.\3',
                r'attn\.relative_position_bias_table': r'attn.relative_position_bias_table',
            }
        ),
        *DUALTOKEN.rules,
    ),
    config=_config,
    head_rules=DUALTOKEN.head_rules,
    optional=DUALTOKEN.optional,
)
