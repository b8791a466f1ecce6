"""CSWin Transformers of the authors' repository, classifiers and segmentors."""

from __future__ import annotations

from .keymap import KeyMap, Rename, StateDict, stage_depths
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


def cswin_arch(state: StateDict) -> dict:
    """The host's arch, read off a converted state.

    Raises:
        ValueError: If no published size has the width, as the number of heads is then unknown.
    """
    embed_dims = len(state['stages.0.patch_embed.proj.bias'])
    if embed_dims not in HEADS:
        raise ValueError(
            f'the heads of a CSWin of width {embed_dims} are unknown, published are '
            f'{", ".join(map(str, HEADS))}'
        )
    return dict(
        embed_dims=embed_dims,
        depths=stage_depths(state, r'stages\.(\d)\.blocks\.(\d+)\.'),
        num_heads=HEADS[embed_dims],
    )


#: Stripes are those of 224 pixels; no tensor tells their width, files of 384 pixels need a config.
CSWIN = KeyMap(
    source='the CSWin repository (microsoft/CSWin-Transformer)',
    rules=_rules(),
    config=lambda state: dict(type='CSWinTransformer', arch=cswin_arch(state)),
    head_rules=LINEAR_HEAD,
)
