"""STTR of the public repository (mli0603/stereo-transformer)."""

from __future__ import annotations

from .keymap import Drop, KeyMap, Rename, StateDict

_WEIGHT_NORM = {'weight_g': 'original0', 'weight_v': 'original1'}


def _parametrised(match) -> str:
    return f'regression.{match[1]}.parametrizations.weight.{_WEIGHT_NORM[match[2]]}'


_RULES = (
    Drop(r'.+\.(num_batches_tracked|running_mean|running_var)', 'norms use the pair at hand'),
    Drop(r'transformer\.norm\..+', 'not used by the authors'),
    Rename(r'backbone\.(.+)', r'features.extractor.\1'),
    Rename(r'tokenizer\.(.+)', r'features.tokenizer.\1'),
    Rename(
        r'transformer\.(self|cross)_attn_layers\.(\d+)\.(?:self|cross)_attn\.in_proj_(weight|bias)',
        r'transformer.\1_layers.\2.attn.in_proj.\3',
    ),
    Rename(
        r'transformer\.(self|cross)_attn_layers\.(\d+)\.(?:self|cross)_attn\.(out_proj\..+)',
        r'transformer.\1_layers.\2.attn.\3',
    ),
    Rename(
        r'transformer\.(self|cross)_attn_layers\.(\d+)\.(norm[12]\..+)',
        r'transformer.\1_layers.\2.\3',
    ),
    Rename(r'regression_head\.(cal\..+)\.(weight_[gv])', _parametrised),
    Rename(r'regression_head\.(phi|cal\..+)', r'regression.\1'),
)


def _depth(state: StateDict) -> int:
    return len({key.split('.')[2] for key in state if key.startswith('transformer.self_layers.')})


def _config(state: StateDict, attention: str = 'EpipolarAttention', **options) -> dict:
    context = None
    if 'regression.cal.in_conv.weight' in state:
        blocks = {key.split('.')[3] for key in state if key.startswith('regression.cal.layers.')}
        channels = len(state['regression.cal.in_conv.bias'])
        hidden = len(state['regression.cal.layers.0.module.0.bias']) if blocks else channels
        context = dict(
            type='ContextAdjustment',
            num_blocks=len(blocks),
            channels=channels,
            expansion=hidden // channels,
        )
    return dict(
        type='StereoMatching',
        features=dict(
            type='STTRFeatures',
            embed_dims=len(state['features.tokenizer.dense_block.2.double_conv.4.bias']),
        ),
        transformer=dict(
            type='StereoTransformer',
            num_heads=8,
            depth=_depth(state),
            attention=dict(type=attention, **options),
        ),
        regression=dict(type='DisparityRegression', context=context),
    )


def _untold(config: dict) -> list[str]:
    return ['stride: no tensor tells; the authors run 3']


STTR = KeyMap(
    source='the STTR repository (mli0603/stereo-transformer)',
    rules=_RULES,
    config=_config,
    whole_model=True,
    untold=_untold,
)

#: STTR as the start of one with trees.
STTR_QUADTREE = KeyMap(
    source=STTR.source,
    rules=_RULES,
    config=lambda state: _config(state, 'EpipolarTreeAttention', levels=4, topks=6),
    optional=(r'.+\.level_weight',),
    whole_model=True,
    untold=_untold,
)
