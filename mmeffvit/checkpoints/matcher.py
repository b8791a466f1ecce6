"""Matchers of the public repositories of QuadTree attention and LoFTR (Lightning checkpoints)."""

from __future__ import annotations

from collections.abc import Sequence

from .keymap import KeyMap, Rename, StateDict, to_linear

#: Lightning's module holds the matcher under this name.
_START = r'(?:matcher\.)?'
_LAYERS = (
    (rf'{_START}loftr_coarse\.layers\.(\d+)', r'transformer.layers.\1'),
    (rf'{_START}loftr_fine\.layers\.(\d+)', r'fine.transformer.layers.\1'),
)


def _layer_rules(public: str, ours: str) -> tuple[Rename, ...]:
    return (
        Rename(rf'{public}\.(norm[12]\..+)', rf'{ours}.\2'),
        # The pre-norm block with QuadTree attention.
        Rename(rf'{public}\.attn\.([qkv])_proj\.weight', rf'{ours}.attn.\2.weight', to_linear),
        Rename(rf'{public}\.attn\.py_att\.weight', rf'{ours}.attn.level_weight'),
        Rename(rf'{public}\.(attn\.proj\..+)', rf'{ours}.\2'),
        Rename(rf'{public}\.(mlp\.fc[12]\..+)', rf'{ours}.\2'),
        Rename(rf'{public}\.mlp\.dwconv\.dwconv\.(.+)', rf'{ours}.mlp.dwconv.\2'),
        # LoFTR's block.
        Rename(rf'{public}\.([qkv])_proj\.weight', rf'{ours}.attn.\2.weight'),
        Rename(rf'{public}\.merge\.weight', rf'{ours}.attn.proj.weight'),
        Rename(rf'{public}\.(mlp\.[02]\.weight)', rf'{ours}.\2'),
    )


def _kinds(state: StateDict, start: str) -> Sequence[str]:
    layers = {key.split('.')[start.count('.')] for key in state if key.startswith(start)}
    return ('self', 'cross') * (len(layers) // 2)


def _config(state: StateDict) -> dict:
    widths = tuple(state[f'backbone.layer{level}.0.conv2.weight'].shape[0] for level in (1, 2, 3))
    tree = 'transformer.layers.0.mlp.fc1.weight' in state
    if tree:
        kind = 'B' if 'transformer.layers.0.attn.level_weight' in state else 'A'
        attention = dict(
            type='QuadTreeAttention',
            levels=3,
            topks=(16, 8, 8),
            lepe=False,
            value_branch=False,
            kind=kind,
        )
    else:
        attention = dict(type='LinearAttention')
    transport = 'coarse.bin_score' in state
    return dict(
        type='FeatureMatcher',
        backbone=dict(type='ResNetFPN', initial_dims=widths[0], block_dims=widths),
        transformer=dict(
            type='MatchingTransformer',
            num_heads=8,
            attention=attention,
            block=dict(type='CrossBlock' if tree else 'LoFTRBlock'),
            kinds=_kinds(state, 'transformer.layers.'),
        ),
        coarse=dict(type='OptimalTransport' if transport else 'DualSoftmax'),
    )


def _untold(config: dict) -> list[str]:
    if config['transformer']['attention']['type'] != 'QuadTreeAttention':
        return ['LoFTR: its first released files need historical_position=True, others do not']
    return ['topks: no tensor tells; the authors run 32, 16, 16 indoors and 16, 8, 8 outdoors']


MATCHER = KeyMap(
    source='the QuadTreeAttention or the LoFTR repository, matching',
    rules=(
        Rename(
            rf'{_START}(backbone\.(?:conv1|bn1|layer[123](?:_outconv2?)?)\..+)',
            r'\1',
        ),
        *(rule for pair in _LAYERS for rule in _layer_rules(*pair)),
        Rename(rf'{_START}fine_preprocess\.((?:down_proj|merge_feat)\..+)', r'fine.\1'),
        Rename(rf'{_START}coarse_matching\.bin_score', r'coarse.bin_score'),
    ),
    config=_config,
    whole_model=True,
    untold=_untold,
)
