"""State dicts under the names of public code, made from models of ours: the layout of each file.

The names are written down here a second time, by hand from the public code, to check the key maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmeffvit import backbones, get_model
from mmeffvit.checkpoints.index import PublishedFile
from mmeffvit.registry import MODELS

State = dict[str, Tensor]


def pvtv2(state: Mapping[str, Tensor]) -> State:
    """PVTv2 of whai362/PVT."""
    public = {}
    for key, value in state.items():
        _, stage, part, rest = key.split('.', 3)
        name = f'{dict(blocks="block").get(part, part)}{int(stage) + 1}.{rest}'
        public[name.replace('mlp.dwconv.', 'mlp.dwconv.dwconv.')] = value
    return public


def pvtv2_of_timm(state: Mapping[str, Tensor]) -> State:
    """PVTv2 of timm."""
    public = {}
    for key, value in state.items():
        _, stage, part, rest = key.split('.', 3)
        if part == 'patch_embed':
            key = f'stages.{stage}.downsample.{rest}' if int(stage) else f'patch_embed.{rest}'
        public[key] = value
    return public


def pvt(state: Mapping[str, Tensor]) -> State:
    """PVT (v1) of whai362/PVT: tables beside the blocks, a class token in the last stage."""
    public = {}
    for key, value in state.items():
        if key.endswith('position.weight'):
            number = int(key.split('.')[1]) + 1
            token = value.new_zeros(1, int(number == 4), value.shape[2])
            public[f'pos_embed{number}'] = torch.cat([token, value], dim=1)
        else:
            public.update(pvtv2({key: value}))
    width = public['norm4.weight'].shape[0] if 'norm4.weight' in public else value.shape[0]
    public.update({'cls_token': torch.zeros(1, 1, width), 'norm.weight': torch.ones(width)})
    public['norm.bias'] = torch.zeros(width)
    return public


def quadtree(state: Mapping[str, Tensor]) -> State:
    """QuadTree transformers of Tangshitao/QuadTreeAttention."""
    names = {
        'attn.q.': 'attn.q_proj.', 'attn.k.': 'attn.k_proj.', 'attn.v.': 'attn.v_proj.',
        'attn.level_weight': 'attn.py_att.weight', 'attn.lepe.': 'attn.py_att.get_vs.',
        'attn.value_branches.': 'attn.value_branchs.', '.norm1.': '.0.', '.reduce.': '.2.',
        '.norm2.': '.3.', 'mlp.dwconv.': 'mlp.dwconv.dwconv.',
    }  # fmt: skip
    public = {}
    for key, value in state.items():
        _, stage, part, rest = key.split('.', 3)
        name = f'{dict(blocks="block").get(part, part)}{int(stage) + 1}.{rest}'
        for ours, theirs in names.items():
            if ours[0] != '.' or 'value_branchs' in name:
                name = name.replace(ours, theirs)
        if 'value_branchs' in name:
            name = name.replace('.proj.', '.5.')
        projects = value.ndim == 2 and any(f'.{x}_proj.' in name for x in 'qkv')
        public[name] = value[:, :, None, None] if projects or '.5.weight' in name else value
    return public


def swin(state: Mapping[str, Tensor]) -> State:
    """Classifiers of microsoft/Swin-Transformer, with the tables that their files have."""
    public = {}
    for key, value in state.items():
        if re.match(r'norms\.[0-2]\.', key):
            continue
        key = key.replace('norms.3.', 'norm.').replace('stages.0.patch_embed', 'patch_embed')
        for stage in (1, 2, 3):
            key = key.replace(f'stages.{stage}.patch_embed', f'layers.{stage - 1}.downsample')
        public[key.replace('stages.', 'layers.')] = value
    table = public['layers.0.blocks.0.attn.relative_position_bias_table']
    area = (round(table.shape[0] ** 0.5) + 1) ** 2 // 4
    for key in [key for key in public if key.endswith('bias_table')]:
        public[key.replace('bias_table', 'index')] = torch.zeros(area, area).long()
    public['layers.0.blocks.1.attn_mask'] = torch.zeros(64, area, area)
    return public


_CSWIN = (
    (r'stages.0.patch_embed.proj.', r'stage1_conv_embed.0.'),
    (r'stages.0.patch_embed.norm.', r'stage1_conv_embed.2.'),
    (r'stages.(\d).patch_embed.proj.', r'merge\1.conv.'),
    (r'stages.(\d).patch_embed.norm.', r'merge\1.norm.'),
    (r'stages.3.norm.', r'norm.'),
    (r'stages.(\d).blocks.(\d+).attn.lepe.(\d).', r'stage\1.\2.attns.\3.get_v.'),
    (r'stages.(\d).blocks.(\d+).(?:attn.)?', r'stage\1.\2.'),
)


def cswin(state: Mapping[str, Tensor]) -> State:
    """CSWin of microsoft/CSWin-Transformer, whose stages count from 1."""
    public = {}
    for key, value in state.items():
        for ours, theirs in _CSWIN:
            if re.match(ours, key):
                key = re.sub(ours, theirs, key, count=1)
                break
        public[re.sub(r'^stage(\d)\.', lambda m: f'stage{int(m[1]) + 1}.', key)] = value
    return public


def lightvit(state: Mapping[str, Tensor]) -> State:
    """LightViT of hunto/LightViT, index tables included."""
    public = {}
    for key, value in state.items():
        parts = key.split('.')
        if parts[0] == 'stem':
            if parts[1] == 'convs':
                place = 3 * int(parts[2]) + (parts[3] == 'bn')
                key = f'patch_embed.stem.{place}.{parts[4]}'
            else:
                key = f'patch_embed.{".".join(parts[1:])}'
        elif parts[0] == 'stages':
            stage, rest = int(parts[1]), '.'.join(parts[3:])
            if parts[2] == 'merge':
                names = dict(merging='', residual='res_proj', token_norm='norm2', token_proj='proj')
                name = '.'.join(filter(None, [names[parts[3]], *parts[4:]]))
                key = f'stages.{stage}.0.{name}'
            else:
                block = int(parts[3]) + (stage > 0)
                rest = '.'.join(parts[4:])
                if rest.startswith('mlp.') and not rest.startswith('mlp.fc'):
                    rest = rest.replace('mlp.', 'mlp.attn.')
                key = f'stages.{stage}.{block}.{rest}'
                if rest.endswith('bias_table'):
                    public[key.replace('bias_table', 'index')] = torch.zeros(2401)
        public[key] = value
    return public


def vit(state: Mapping[str, Tensor]) -> State:
    """Plain ViTs of timm, DeiT and DINO."""
    return {key.replace('position.weight', 'pos_embed'): value for key, value in state.items()}


def skipat(state: Mapping[str, Tensor]) -> State:
    """SkipAt of Qualcomm-AI-research/skip-attention, with the layers that it never uses."""
    names = dict(fc1='linear1.0', dwconv='dwconv.0', fc2='linear2.0', eca='eca')
    public = {}
    for key, value in vit(state).items():
        match = re.fullmatch(r'blocks\.(\d+)\.attn\.phi\.(\w+)\.(.+)', key)
        if match:
            public[f'param_{int(match[1]) - 2}.{names[match[2]]}.{match[3]}'] = value
        else:
            public[key] = value
    for block in range(3, 9):
        used = [key for key in public if re.match(r'blocks\.0\.(norm1|attn)\.', key)]
        for key in used:
            public[key.replace('blocks.0.', f'blocks.{block}.')] = public[key]
    return public


def uformer(state: Mapping[str, Tensor]) -> State:
    """Uformer of ZhendongWang6/Uformer; the spelling is theirs."""
    names = (
        (r'stem\.0\.', r'input_proj.proj.0.'),
        (r'head\.', r'output_proj.proj.0.'),
        (r'downs\.(\d)\.', r'dowsample_\1.conv.0.'),
        (r'ups\.(\d)\.', r'upsample_\1.deconv.0.'),
        (r'encoder\.(\d)\.', r'encoderlayer_\1.blocks.'),
        (r'decoder\.(\d)\.', r'decoderlayer_\1.blocks.'),
        (r'bottleneck\.', r'conv.blocks.'),
    )
    layers = (
        (r'mlp\.fc([12])\.', r'mlp.linear\1.0.'),
        (r'mlp\.dwconv\.', r'mlp.dwconv.0.'),
        (r'attn\.modulator$', r'modulator.weight'),
    )
    public = {}
    for key, value in state.items():
        for ours, theirs in names:
            key = re.sub(f'^{ours}', theirs, key)
        for ours, theirs in layers:
            key = re.sub(ours, theirs, key)
        if '.attn.qkv.' in key:
            width = value.shape[0] // 3
            public[key.replace('qkv.', 'qkv.to_q.')] = value[:width]
            public[key.replace('qkv.', 'qkv.to_kv.')] = value[width:]
            continue
        if key.endswith('bias_table'):
            public[key.replace('bias_table', 'index')] = torch.zeros(64, 64).long()
        public[key] = value
    return public


def matcher(state: Mapping[str, Tensor]) -> State:
    """Matchers of Tangshitao/QuadTreeAttention, as Lightning's module holds them."""
    public = {}
    for key, value in state.items():
        if key.startswith('transformer.'):
            key = key.replace('transformer.', 'loftr_coarse.', 1)
            for mine in 'qkv':
                if f'.attn.{mine}.' in key:
                    key, value = key.replace(f'.{mine}.', f'.{mine}_proj.'), value[:, :, None, None]
            key = key.replace('attn.level_weight', 'attn.py_att.weight')
            key = key.replace('mlp.dwconv.', 'mlp.dwconv.dwconv.')
        elif key.startswith('fine.transformer.'):
            key = key.replace('fine.transformer.', 'loftr_fine.')
            for mine, theirs in (
                ('q', 'q_proj'),
                ('k', 'k_proj'),
                ('v', 'v_proj'),
                ('proj', 'merge'),
            ):
                key = key.replace(f'.attn.{mine}.', f'.{theirs}.')
        elif key.startswith('fine.'):
            key = key.replace('fine.', 'fine_preprocess.', 1)
        public[f'matcher.{key}'] = value
    return public


_NAMES = dict(
    quadtree=quadtree, pvt=pvt, pvtv2=pvtv2, swin=swin, cswin=cswin, lightvit=lightvit, vit=vit,
    skipat=skipat, uformer=uformer, matcher=matcher,
)  # fmt: skip
#: Where the host of a published file has other arguments than the model of its name.
_ARGUMENTS = dict(
    lightvit_classifier=dict(out_type='raw'),
    swin_b_384=dict(window_size=12),
    swin_b_384_22k=dict(window_size=12),
    swin_b_384_22kto1k=dict(window_size=12),
)


def model_of(entry: PublishedFile) -> nn.Module:
    """The backbone or denoiser that an entry of the index is of, on the meta device."""
    with torch.device('meta'):
        if 'config' in entry.options:
            return MODELS.build({'_scope_': 'mmeffvit', **entry.options['config']})
        if entry.model is None:
            arch = dict(embed_dims=144, depths=(2, 4, 32, 2), num_heads=(6, 12, 24, 24))
            return backbones.CSWinTransformer(arch)  # large
        more = _ARGUMENTS.get(entry.name) or _ARGUMENTS.get(f'{entry.family}_{entry.part}') or {}
        return get_model(entry.model, **more)


def layout_of(entry: PublishedFile, rest: Mapping[str, Tensor] | None = None) -> State:
    """Names and shapes of a published file, on the meta device.

    Args:
        entry (PublishedFile): An entry of the index.
        rest (Mapping[str, Tensor], optional): Neck and heads of a detector or segmentor.
    """
    rename = pvtv2_of_timm if entry.name.endswith('_timm') else _NAMES[entry.family]
    state = model_of(entry).state_dict()
    with torch.device('meta'):
        public = rename(state)
        if entry.part in ('detector', 'segmentor'):
            return {**{f'backbone.{k}': v for k, v in public.items()}, **(rest or {})}
        if entry.part == 'classifier':
            public.update(_head(entry, public))
    return public


def _head(entry: PublishedFile, public: Mapping[str, Tensor]) -> State:
    classes = 21841 if entry.name.endswith('_22k') else 1000
    norms = ('norm.weight', 'norm4.weight', 'stages.3.norm.weight')
    width = next(public[name] for name in norms if name in public).shape[0]
    shapes = {'head': (classes, width)}
    if entry.family == 'lightvit':
        shapes = {'neck.0': (1280, width), 'neck.1': (1280,), 'head': (classes, 1280)}
    head = {}
    for layer, shape in shapes.items():
        head[f'{layer}.weight'] = torch.empty(shape)
        head[f'{layer}.bias'] = torch.empty(shape[:1])
    return head
