"""Slide-Transformers: the authors' Slide-Swin, and a start from the weights of a baseline.

The authors have published neither weights nor Slide-PVT; the latter's names are PVT's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..layers import SlideAttention
from .cswin import CSWIN, cswin_arch
from .keymap import Drop, KeyMap, Rename, StateDict
from .nat import NAT, nat_arch
from .pvt import LINEAR_HEAD, PVT, PVTV2, pvt_positions, pyramid_arch, pyramid_rules
from .swin import (
    OUTPUT_NORMS,
    SWIN,
    position_size_of,
    shift_rule_of,
    swin_arch,
    swin_rules,
    untold_shifts,
    window_size_of,
)

_NAMES = r'((?:qkv|proj|dep_conv[12]?)\..+|relative_position_bias_table)'
#: One-hot kernels; the layer has them where a file leaves them out.
_CONSTANT = r'.+\.attn\.dep_conv\.weight'
_IN_FIRST_STAGES = re.compile(r'stages\.([01])\.blocks\.\d+\.attn\.')


def _swin_config(
    state: StateDict, layout: str | None = None, shift_rule: str | None = None
) -> dict:
    arch, tables = swin_arch(state)
    return dict(
        type='SlideSwin',
        arch=arch,
        num_slide_stages=sum(table.ndim == 6 for table in tables),
        window_size=tuple(7 if table.ndim == 6 else window_size_of(table) for table in tables),
        attention=_options(state),
        shift_rule=shift_rule_of(state, layout, shift_rule),
        **position_size_of(state),
    )


def _pvt_config(name: str) -> Callable[[StateDict], dict]:
    def config(state: StateDict, layout: str | None = None, **options) -> dict:
        stages = sum(f'stages.{i}.blocks.0.attn.dep_conv.bias' in state for i in range(4))
        return dict(
            type=name,
            arch=pyramid_arch(state, **options),
            num_slide_stages=stages,
            attention=_options(state),
            **({} if name == 'SlidePVTv2' else pvt_positions(state)),
        )

    return config


def _cswin_config(state: StateDict, **options) -> dict:
    arch = cswin_arch(state, **options)
    return dict(type='SlideCSwin', arch=arch, attention=_options(state))


def _nat_config(state: StateDict) -> dict:
    stages = sum(f'stages.{i}.blocks.0.attn.dep_conv.bias' in state for i in range(4))
    return dict(
        type='SlideNAT', arch=nat_arch(state), num_slide_stages=stages, attention=_options(state)
    )


def _options(state: StateDict) -> dict:
    first = 'stages.0.blocks.0.attn.'
    learned = state.get(f'{first}dep_conv1.weight')
    bank = state[f'{first}dep_conv.weight'] if learned is None else learned
    return dict(
        kernel_size=bank.shape[-1],
        deploy=learned is None,
        separate_banks=f'{first}dep_conv2.weight' in state,
    )


def _start_from(baseline: KeyMap, config: Callable, dropped: str, head_dims: Callable) -> KeyMap:
    """Slide attention in the first two stages, with the baseline's projections.

    Learned bank, biases and position table start at zero, so that the network starts as plain local
    attention (our choice).

    Args:
        baseline (KeyMap): Where the weights come from.
        config (Callable): Config of a converted state.
        dropped (str): Pattern of public keys that Slide attention has no use for.
        head_dims (Callable): ``head_dims(state, num_heads)``, widths of a head in the first two
            stages, of the baseline's state.
    """

    def finish(state: StateDict, num_heads: Sequence[int] | None = None, **options) -> StateDict:
        state, widths = dict(state), head_dims(state, num_heads)
        found = {match[0]: match[1] for match in map(_IN_FIRST_STAGES.match, state) if match}
        for attn, stage in sorted(found.items()):
            width = widths[int(stage)]
            for leaf in ('weight', 'bias'):
                parts = [state.pop(f'{attn}{name}.{leaf}', None) for name in ('q', 'kv', 'qkv')]
                parts = [part for part in parts if part is not None]
                if parts:  # rows from (3, head, channel) to (head, 3, channel)
                    rows = torch.cat(parts).unflatten(0, (3, -1, width))
                    state[f'{attn}qkv.{leaf}'] = rows.transpose(0, 1).flatten(0, 2)
            heads = state[f'{attn}qkv.weight'].shape[1] // width
            fresh = SlideAttention(heads * width, heads).state_dict()
            for name, value in fresh.items():
                if name == 'dep_conv.weight':
                    state[attn + name] = value
                elif name.startswith(('dep_conv', 'relative')):
                    state[attn + name] = torch.zeros_like(value)
        return state

    return KeyMap(
        source=baseline.source,
        rules=(Drop(dropped, 'Slide attention has no such part'), *baseline.rules),
        config=config,
        head_rules=baseline.head_rules,
        optional=baseline.optional,
        finish=finish,
        options=baseline.options,
        layouts=baseline.layouts,
        untold=baseline.untold,
    )


def _pyramid_head_dims(state: StateDict, num_heads: Sequence[int] | None) -> list[int]:
    arch = pyramid_arch(state, num_heads)
    return [width // heads for width, heads in zip(arch['embed_dims'], arch['num_heads'])]


def _cswin_head_dims(state: StateDict, num_heads: Sequence[int] | None) -> list[int]:
    arch = cswin_arch(state, num_heads)
    return [arch['embed_dims'] * 2**i // heads for i, heads in enumerate(arch['num_heads'])]


SLIDE_SWIN = KeyMap(
    source='the Slide-Transformer repository (LeapLabTHU/Slide-Transformer)',
    rules=swin_rules((Rename(_NAMES, r'\3'),)),
    config=_swin_config,
    head_rules=LINEAR_HEAD,
    optional=(*OUTPUT_NORMS, _CONSTANT),
    options=('shift_rule',),
    untold=untold_shifts,
)
_PYRAMID = pyramid_rules((Rename(_NAMES, r'\2'),))
SLIDE_PVT = replace(
    PVT, rules=(*PVT.rules, *_PYRAMID), config=_pvt_config('SlidePVT'), optional=(_CONSTANT,)
)
SLIDE_PVTV2 = replace(
    PVTV2, rules=(*PVTV2.rules, *_PYRAMID), config=_pvt_config('SlidePVTv2'), optional=(_CONSTANT,)
)

SWIN_TO_SLIDE = _start_from(
    SWIN,
    _swin_config,
    r'(?:layers|stages)\.[01]\.blocks\.\d+\.attn\.(?:w_msa\.)?relative_position_bias_table',
    head_dims=lambda *_: (32, 32),
)
CSWIN_TO_SLIDE = _start_from(
    CSWIN,
    _cswin_config,
    r'stage[12]\.\d+\.attns\.\d\.get_v\..+',
    head_dims=_cswin_head_dims,
)
NAT_TO_SLIDE = _start_from(
    NAT,
    _nat_config,
    r'levels\.[01]\.blocks\.\d+\.attn\.rpb',
    head_dims=lambda *_: (32, 32),
)
_REDUCTION = r'(?:block[12]|stages\.[01]\.blocks|layers\.[01]\.1)\.\d+\.attn\.(?:sr|norm)\..+'
PVT_TO_SLIDE, PVTV2_TO_SLIDE = (
    _start_from(
        baseline,
        _pvt_config(name),
        _REDUCTION,
        head_dims=_pyramid_head_dims,
    )
    for baseline, name in ((PVT, 'SlidePVT'), (PVTV2, 'SlidePVTv2'))
)
