"""Uformer of the authors' repository (ZhendongWang6/Uformer); the spelling is theirs."""

from __future__ import annotations

from .keymap import Drop, KeyMap, Rename, StateDict, stage_depths

_STAGES = (
    (r'encoderlayer_(\d)\.blocks\.(\d+)', r'encoder.\1.\2', 3),
    (r'conv\.blocks\.(\d+)', r'bottleneck.\1', 2),
    (r'decoderlayer_(\d)\.blocks\.(\d+)', r'decoder.\1.\2', 3),
)


def _block_rules(public: str, ours: str, group: int) -> tuple[Rename | Drop, ...]:
    """Rules of one kind of stage, whose own groups end before ``group``."""
    return (
        Rename(rf'{public}\.(norm[12]\..+)', rf'{ours}.\{group}'),
        Rename(rf'{public}\.attn\.qkv\.to_q\.(.+)', rf'{ours}.attn.qkv.\{group}', part=0),
        Rename(rf'{public}\.attn\.qkv\.to_kv\.(.+)', rf'{ours}.attn.qkv.\{group}', part=1),
        Rename(rf'{public}\.(attn\.proj\..+)', rf'{ours}.\{group}'),
        Rename(rf'{public}\.(attn\.relative_position_bias_table)', rf'{ours}.\{group}'),
        Drop(rf'{public}\.attn\.relative_position_index', 'computed from the window size'),
        Rename(rf'{public}\.mlp\.linear([12])\.0\.(.+)', rf'{ours}.mlp.fc\{group}.\{group + 1}'),
        Rename(rf'{public}\.mlp\.dwconv\.0\.(.+)', rf'{ours}.mlp.dwconv.\{group}'),
        Rename(rf'{public}\.modulator\.weight', rf'{ours}.attn.modulator'),
    )


_RULES = (
    Rename(r'input_proj\.proj\.0\.(.+)', r'stem.0.\1'),
    Rename(r'output_proj\.proj\.0\.(.+)', r'head.\1'),
    Rename(r'dowsample_(\d)\.conv\.0\.(.+)', r'downs.\1.\2'),
    Rename(r'upsample_(\d)\.deconv\.0\.(.+)', r'ups.\1.\2'),
    *(rule for stage in _STAGES for rule in _block_rules(*stage)),
)


def _arch(state: StateDict) -> dict:
    bottleneck = [int(key.split('.')[1]) for key in state if key.startswith('bottleneck.')]
    depths = (
        *stage_depths(state, r'encoder\.(\d)\.(\d+)\.'),
        1 + max(bottleneck, default=-1),
        *stage_depths(state, r'decoder\.(\d)\.(\d+)\.'),
    )
    return dict(embed_dims=len(state['stem.0.bias']), depths=depths)


def _sizes(state: StateDict) -> dict:
    rows = len(state['encoder.0.0.attn.relative_position_bias_table'])
    return dict(
        arch=_arch(state),
        in_channels=state['stem.0.weight'].shape[1],
        window_size=(int(rows**0.5) + 1) // 2,
    )


def _config(state: StateDict) -> dict:
    config = dict(type='Uformer', **_sizes(state))
    if 'decoder.0.0.attn.modulator' not in state:
        config['decoder_attention'] = 'WindowAttention'
    return config


UFORMER = KeyMap(
    source='the Uformer repository (ZhendongWang6/Uformer)',
    rules=_RULES,
    config=_config,
)

#: A plain Uformer as the start of one with SkipAt.
UFORMER_SKIPAT = KeyMap(
    source=UFORMER.source,
    rules=(
        Drop(r'decoderlayer_\d\.blocks\.\d+\.(attn|modulator)\..+', 'the decoder does not attend'),
        *_RULES,
    ),
    config=lambda state: dict(type='SkipUformer', **_sizes(state)),
    optional=(r'decoder\.\d\.\d+\.attn\.phi\..+',),
)
