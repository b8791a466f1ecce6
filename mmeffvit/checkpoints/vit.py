"""Plain ViTs of timm, DeiT, DINO, mmpretrain and mmseg."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from math import isqrt
from typing import Any

import torch

from .keymap import (
    Drop,
    KeyMap,
    Refuse,
    Rename,
    Rule,
    StateDict,
    UnknownArchitectureError,
    check_heads,
)
from .pvt import LINEAR_HEAD

#: DINOv2's files of sharded trainings have blocks in chunks, ``blocks.CHUNK.INDEX``, with the index
#: counted over all of them.
_BLOCK = r'(?:blocks\.(?:\d+\.)?|layers\.)(\d+)\.'
QKV = rf'{_BLOCK}attn\.(?:qkv\.|attn\.in_proj_)(weight|bias)'
PROJ = rf'{_BLOCK}attn\.(?:proj|attn\.out_proj)\.(weight|bias)'
FINAL_NORM = r'(?:norm|ln1)\.(weight|bias)'

#: Heads of the published widths: ViT-T, S, B, L, H, g (giant), G (gigantic), So400m, and timm's
#: sizes between them. Those of 1536 are 24 in DINOv2's giant and 16 in SigLIP 2's.
HEADS: dict[int, tuple[int, ...]] = {
    **{width: (width // 64,) for width in (192, 256, 320, 384, 512, 640, 768, 832, 896, 1024)},
    **dict.fromkeys((1152, 1280, 1408, 1664), (16,)),
    1536: (16, 24),
}
#: Width, depth and hidden width of mmpretrain's ``'small'``, to its heads.
_EXCEPTIONS = {(768, 8, 2304): (8,)}
#: What a ViT may have that the host does not.
_LACKING = (
    Refuse(r'.+\.(?:mlp\.(?:w12|w1|w2|w3|fc1_[gx])|ffn\.w\w+)\..+', 'no gated MLP (SwiGLU)'),
    Refuse(r'.+\.attn\.[qk]_norm\..+', 'no norm of queries and keys'),
    Refuse(r'.+\.attn\.(?:norm|scale_norm|inner_attn_ln)\..+', 'no norm inside the attention'),
    Refuse(r'.*rel(?:ative)?_pos.*', 'no relative position bias'),
    Refuse(r'.*(?:rope|freqs?_).*', 'no rotary position embedding'),
    Refuse(r'attn_pool\..+', 'no attention pooling'),
    Refuse(r'patch_embed\.(?:backbone|norm|conv\d?)\..+', 'a patch embedding of one convolution'),
)


def vit_rules(inner: str = '') -> tuple[Rule, ...]:
    """Rules of the patch embedding and the blocks.

    Args:
        inner (str): Where in a block of ours the ViT's layers are, with a dot at its end.
    """
    ours = rf'blocks.\1.{inner}'
    return (
        Rename(r'patch_embed\.proj(?:ection)?\.(.+)', r'patch_embed.proj.\1'),
        Rename(rf'{_BLOCK}(?:norm|ln)([12])\.(.+)', rf'{ours}norm\2.\3'),
        Rename(QKV, rf'{ours}attn.qkv.\2'),
        Rename(PROJ, rf'{ours}attn.proj.\2'),
        Rename(rf'{_BLOCK}(?:mlp\.fc1|ffn\.layers\.0\.0)\.(.+)', rf'{ours}mlp.fc1.\2'),
        Rename(rf'{_BLOCK}(?:mlp\.fc2|ffn\.layers\.1)\.(.+)', rf'{ours}mlp.fc2.\2'),
        Rename(
            rf'{_BLOCK}(?:ls([12])\.gamma|gamma_([12])|(?:attn|ffn)\.gamma([12])\.weight)',
            lambda match: (
                f'blocks.{match[1]}.{inner}scale{match[2] or match[3] or match[4]}.weight'
            ),
        ),
        Drop(r'pre_logits\..+', 'the representation layer belongs to the classifier'),
        Drop(r'mask_token', 'it takes the place of masked patches in pre-training'),
        *_LACKING,
    )


def find_heads(
    state: StateDict, inner: str = '', num_heads: int | Sequence[int] | None = None
) -> int:
    """The number of heads, which no tensor tells: given, or that of the published widths.

    Raises:
        UnknownArchitectureError: If it is not given, and not one published size has the width.
    """
    width = len(state['patch_embed.proj.weight'])
    if num_heads is not None:
        return check_heads(num_heads, [width])[0]
    sizes = width, _depth(state), len(state[f'blocks.0.{inner}mlp.fc1.weight'])
    heads = _EXCEPTIONS.get(sizes, HEADS.get(width, ()))
    if len(heads) != 1:
        known = ' or '.join(map(str, heads)) or 'of no published size'
        raise UnknownArchitectureError(
            f'No tensor tells the number of heads of a ViT, and for its width {width} it is '
            f'{known}: give num_heads (--num-heads).'
        )
    return heads[0]


def find_grid(
    rows: int, extras: Collection[int], patch_size: int, image_size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The grid of a position table: that of an image size, or the square one.

    Args:
        rows (int): Rows of the table.
        extras (Collection[int]): How many of them may precede the grid.
        patch_size (int): Side of a patch in pixels.
        image_size (tuple[int, int], optional): Image ``(H, W)`` of the table.

    Raises:
        UnknownArchitectureError: If the table is not square and no size is given, or another one.
    """
    if image_size is not None:
        grid = (-(-image_size[0] // patch_size), -(-image_size[1] // patch_size))
        if rows - grid[0] * grid[1] in extras:
            return grid
    extras = [extra for extra in dict.fromkeys(extras) if extra < rows]
    for extra in extras:
        side = isqrt(rows - extra)
        if image_size is None and side * side == rows - extra:
            return side, side
    sizes = [
        f'{height * patch_size} {(rows - extra) // height * patch_size}'
        for extra in extras
        for height in range(1, rows)
        if (rows - extra) % height == 0 and 0.5 <= (rows - extra) / height**2 <= 2
    ]
    fitting = f', such as {" or ".join(sizes[:4])}' if sizes else ''
    wrong = (
        'is not square' if image_size is None else f'is not one of {image_size[0]}x{image_size[1]}'
    )
    raise UnknownArchitectureError(
        f'The position table of {rows} rows {wrong}: give the image height and width that it was '
        f'trained on as image_size (--image-size){fitting}.'
    )


def _depth(state: StateDict) -> int:
    return 1 + max(int(match[1]) for key in state if (match := re.match(r'blocks\.(\d+)\.', key)))


def vit_arch(
    state: StateDict,
    inner: str = '',
    num_heads: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> dict:
    """The host's ``arch`` and sizes, read off a converted state.

    Args:
        state (dict[str, Tensor]): The converted state.
        inner (str): As in :func:`vit_rules`.
        num_heads (int, optional): See :func:`find_heads`.
        image_size (tuple[int, int], optional): See :func:`find_grid`.

    Raises:
        UnknownArchitectureError: If heads or grid have to be given.
    """
    width, _, _, patch_size = state['patch_embed.proj.weight'].shape
    table = state['position.weight']
    grid = find_grid(table.shape[1], [int('cls_token' in state)], patch_size, image_size)
    height, width_px = (side * patch_size for side in grid)
    return dict(
        arch=dict(
            embed_dims=width,
            depth=_depth(state),
            num_heads=find_heads(state, inner, num_heads),
            mlp_ratio=len(state[f'blocks.0.{inner}mlp.fc1.weight']) / width,
        ),
        img_size=height if height == width_px else (height, width_px),
        patch_size=patch_size,
        qkv_bias=f'blocks.0.{inner}attn.qkv.bias' in state,
    )


def vit_config(state: StateDict, **options) -> dict:
    """The host's arguments, read off a converted state."""
    options.pop('drop_distillation', None)
    activation = options.pop('activation', 'gelu')
    config: dict[str, Any] = dict(
        type='VisionTransformer',
        **vit_arch(state, **options),
        with_cls_token='cls_token' in state,
        num_registers=state['registers'].shape[1] if 'registers' in state else 0,
        final_norm='norm.weight' in state,
    )
    if 'blocks.0.scale1.weight' in state:
        config['layer_scale'] = 1e-5
    if 'norm_pre.weight' in state:
        config.update(pre_norm=True, norm_eps=1e-5)
    if activation != 'gelu':
        config['mlp'] = dict(type='Mlp', activation=activation)
    return config


def with_patch_bias(state: StateDict) -> StateDict:
    """The state with a zero bias of the patch embedding, which mmseg and CLIP do not have."""
    weight = state['patch_embed.proj.weight']
    return {'patch_embed.proj.bias': weight.new_zeros(len(weight)), **state}


def _finish(
    state: StateDict,
    num_heads: int | None = None,
    image_size: tuple[int, int] | None = None,
    drop_distillation: bool = False,
    activation: str = 'gelu',
) -> StateDict:
    """Make extra tokens the class token with a row in the position table, and registers without.

    DeiT's distillation token is a register: it has its place in the sequence and attends. Rows of
    registers are added to them; a class token without a row gets one of zeros.
    """
    state = with_patch_bias(state)
    if state['blocks.0.mlp.fc1.weight'].shape != state['blocks.0.mlp.fc2.weight'].T.shape:
        raise UnknownArchitectureError('The MLPs are gated (SwiGLU); the host has no such MLP.')
    if 'distillation' in state:
        state['registers'] = state.pop('distillation')
    table, patch_size = state['position.weight'], state['patch_embed.proj.weight'].shape[-1]
    registers = state['registers'].shape[1] if 'registers' in state else 0
    num_cls = int('cls_token' in state)
    extras = [num_cls, 0, num_cls + (1 if drop_distillation else registers)]
    height, width = find_grid(table.shape[1], extras, patch_size, image_size)
    extra = table.shape[1] - height * width
    rows, grid = table[:, :extra], table[:, extra:]
    if extra > num_cls and not drop_distillation:
        state['registers'] = state['registers'] + rows[:, num_cls:]
    if not extra:
        rows = table.new_zeros(1, num_cls, table.shape[2])
    state['position.weight'] = torch.cat([rows[:, :num_cls], grid], dim=1)
    return state


def _untold(config: dict) -> list[str]:
    notes = [
        'positions at other sizes are interpolated as in mmpretrain and mmseg; '
        "position_resize='timm' or 'dino' is the others' way"
    ]
    if config.get('pre_norm') and 'mlp' not in config:
        notes.append(
            "the activation is taken to be GELU; OpenAI's CLIP has QuickGELU: activation "
            "(--activation) 'quick_gelu'"
        )
    return notes


VIT = KeyMap(
    source='timm, DeiT, DINO, mmpretrain or mmseg (VisionTransformer)',
    rules=(
        Rename(r'(cls_token)', r'\1'),
        Rename(r'reg(?:ister)?_tokens?', 'registers'),
        Drop(r'dist_token', 'by choice; patches attended to it', chosen='drop_distillation'),
        Rename(r'dist_token', 'distillation'),
        Rename(r'pos_embed', 'position.weight'),
        Rename(r'(?:norm_pre|pre_norm|ln_pre)\.(weight|bias)', r'norm_pre.\1'),
        Rename(FINAL_NORM, r'norm.\1'),
        *vit_rules(),
    ),
    config=vit_config,
    head_rules=(
        Drop(r'head_dist\..+', 'by choice; DeiT averages two', chosen='drop_distillation'),
        Rename(r'head_dist\.(weight|bias)', r'head.layers.head_dist.\1'),
        Rename(r'head\.(weight|bias)', r'head.layers.head.\1', given='head_dist.weight'),
        Refuse(r'(?:fc_norm|ln2)\..+', 'no norm between pooling and LinearClsHead'),
        *LINEAR_HEAD,
    ),
    finish=_finish,
    options=('num_heads', 'image_size', 'drop_distillation', 'activation'),
    untold=_untold,
)
