"""CSWin Transformers of the authors' repository, classifiers and segmentors."""

from __future__ import annotations

from collections.abc import Sequence

from .keymap import (
    KeyMap,
    Rename,
    StateDict,
    UnknownArchitectureError,
    check_heads,
    stage_depths,
)
from .pvt import LINEAR_HEAD

#: Heads of each stage by the width of the first; no tensor tells them.
HEADS = {64: (2, 4, 8, 16), 96: (4, 8, 16, 32), 144: (6, 12, 24, 24)}


def _rules() -> tuple[Rename, ...]:
    rules = [
        Rename(r'stage1_conv_embed\.0\.(.+)', r'stages.0.patch_embed.proj.\1'),
        Rename(r'stage1_conv_embed\.2\.(.+)', r'stages.0.patch_embed.norm.\1'),
    ]
    for stage in range(4):
        block, ours = rf'stage{stage + 1}\.(\d+)\.', rf'stages.{stage}.blocks.\1'
        rules += [
            Rename(rf'merge{stage}\.conv\.(.+)', rf'stages.{stage}.patch_embed.proj.\1'),
            Rename(rf'merge{stage}\.norm\.(.+)', rf'stages.{stage}.patch_embed.norm.\1'),
            Rename(rf'{block}((?:norm[12]|mlp\.fc[12])\..+)', rf'{ours}.\2'),
            Rename(rf'{block}((?:qkv|proj)\..+)', rf'{ours}.attn.\2'),
            Rename(rf'{block}attns\.(\d)\.get_v\.(.+)', rf'{ours}.attn.lepe.\2.\3'),
        ]
    return (*rules, Rename(r'norm\.(.+)', r'stages.3.norm.\1'))


def cswin_arch(state: StateDict, num_heads: Sequence[int] | None = None) -> dict:
    """The host's arch, read off a converted state.

    Args:
        state (dict[str, Tensor]): The converted state.
        num_heads (Sequence[int], optional): Heads of each stage; by default those of the published
            widths.

    Raises:
        UnknownArchitectureError: If they are not given and no published size has the width.
    """
    embed_dims = len(state['stages.0.patch_embed.proj.bias'])
    depths = stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.')
    if num_heads is not None:
        num_heads = check_heads(num_heads, [embed_dims * 2**i for i in range(len(depths))])
    elif embed_dims in HEADS:
        num_heads = HEADS[embed_dims]
    else:
        raise UnknownArchitectureError(
            f'No tensor tells the heads of a CSWin of width {embed_dims}, published are '
            f'{", ".join(map(str, HEADS))}: give those of each stage as num_heads (--num-heads).'
        )
    return dict(embed_dims=embed_dims, depths=depths, num_heads=num_heads)


#: Stripes are those of 224 pixels; no tensor tells their width, files of 384 pixels need a config.
CSWIN = KeyMap(
    source='the CSWin repository (microsoft/CSWin-Transformer)',
    rules=_rules(),
    config=lambda state, **options: dict(
        type='CSWinTransformer', arch=cswin_arch(state, **options)
    ),
    head_rules=LINEAR_HEAD,
    options=('num_heads',),
)
