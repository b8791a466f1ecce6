"""QuadTree transformers of the authors' repository (Tangshitao/QuadTreeAttention).

Its classification, detection and segmentation folders use the same backbone keys.
"""

from __future__ import annotations

from .keymap import KeyMap, Rename, StateDict, to_linear
from .pvt import LINEAR_HEAD, pyramid_arch, pyramid_rules

_ATTENTION = (
    Rename(r'([qkv])_proj\.(weight|bias)', r'\2.\3', to_linear),
    Rename(r'(proj\..+)', r'\2'),
    Rename(r'py_att\.weight', r'level_weight'),
    Rename(r'py_att\.get_vs\.(\d+\..+)', r'lepe.\2'),
    Rename(r'value_branchs\.(\d+)\.0\.(.+)', r'value_branches.\2.norm1.\3'),
    Rename(r'value_branchs\.(\d+)\.2\.(.+)', r'value_branches.\2.reduce.\3'),
    Rename(r'value_branchs\.(\d+)\.3\.(.+)', r'value_branches.\2.norm2.\3'),
    Rename(r'value_branchs\.(\d+)\.5\.(.+)', r'value_branches.\2.proj.\3', to_linear),
)


def _config(state: StateDict, value_act: str | None = None, **options) -> dict:
    attention = dict(kind='B' if 'stages.0.blocks.0.attn.level_weight' in state else 'A')
    if value_act is not None:
        attention['value_act'] = value_act
    arch = pyramid_arch(state, **options)
    return dict(type='QuadTreeTransformer', arch=arch, attention=attention)


def _untold(config: dict) -> list[str]:
    value_act = config['attention'].get('value_act', 'gelu')
    return [
        f"value_act={value_act!r} of the value branches is not told by the file: the authors' "
        "classification code has 'gelu', their detection and segmentation code 'relu' (--value-act)"
    ]


QUADTREE = KeyMap(
    source='the QuadTreeAttention repository (Tangshitao/QuadTreeAttention)',
    rules=pyramid_rules(_ATTENTION),
    config=_config,
    head_rules=LINEAR_HEAD,
    options=('num_heads', 'value_act'),
    untold=_untold,
)
