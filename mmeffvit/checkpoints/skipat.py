"""SkipAt of its authors (Qualcomm-AI-research/skip-attention), and a start from a plain ViT.

The authors' files also hold the norms and attention layers of skipped blocks, which never reach the
output. They name Φ by its place in the chain: ``param_1`` belongs to the first skipped block.
"""

from __future__ import annotations

from dataclasses import replace

from .keymap import Drop, Rename, Rule, StateDict
from .vit import VIT, vit_config

#: Skipped blocks of every published model.
SKIPPED = range(3, 9)
_SKIPPED_ATTENTION = rf'(?:blocks|layers)\.[{SKIPPED[0]}-{SKIPPED[-1]}]\.(?:norm1|ln1|attn)\..+'

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


def _config(state: StateDict, **options) -> dict:
    return dict(vit_config(state, **options), type='SkipAtViT', skip_layers=tuple(SKIPPED))


SKIPAT = replace(
    VIT,
    source='the skip-attention repository (Qualcomm-AI-research/skip-attention)',
    rules=(
        Drop(_SKIPPED_ATTENTION, 'a skipped block does not attend; the authors never use it'),
        *_PHI,
        *VIT.rules,
    ),
    config=_config,
)

VIT_TO_SKIPAT = replace(
    VIT,
    rules=(Drop(_SKIPPED_ATTENTION, 'Φ takes the place of this attention layer'), *VIT.rules),
    config=_config,
    optional=(r'blocks\.\d+\.attn\.phi\..+',),
)
