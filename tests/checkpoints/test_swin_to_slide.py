"""Swin and PVT weights, from any of their public homes, in our hosts and in Slide-Transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmeffvit.backbones import PVT, PVTv2, SlideSwin, SwinTransformer
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS

ARCH = dict(embed_dims=32, depths=(2, 2, 2, 1), num_heads=(1, 2, 4, 8))


def _randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1 if parameter.ndim > 1 else 0.5)
    return model.eval()


def _official(swin: SwinTransformer) -> dict[str, Tensor]:
    """The names of the authors' detection code for one of our Swins."""
    state = {}
    for key, value in swin.state_dict().items():
        key = key.replace('stages.0.patch_embed', 'patch_embed').replace('norms.', 'norm')
        for stage in (1, 2, 3):
            key = key.replace(f'stages.{stage}.patch_embed', f'layers.{stage - 1}.downsample')
        state[key.replace('stages', 'layers')] = value
    state['layers.1.blocks.1.attn_mask'] = torch.zeros(1)
    state['layers.0.blocks.0.attn.relative_position_index'] = torch.zeros(49, 49).long()
    return state


def _openmmlab(swin: SwinTransformer) -> dict[str, Tensor]:
    """The names and the merging order of mmpretrain, mmdet and mmseg."""
    names = {'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1', 'attn.': 'attn.w_msa.'}
    names |= {'layers.': 'stages.', 'patch_embed.proj': 'patch_embed.projection'}
    state = {}
    for key, value in _official(swin).items():
        if 'attn_mask' in key:
            continue
        if 'downsample' in key:  # (column, row, channel) to (channel, row, column)
            value = value.unflatten(-1, (2, 2, -1)).transpose(-3, -1).flatten(-3)
        for ours, theirs in names.items():
            key = theirs.join(key.split(ours)) if ours in key else key
        state[f'backbone.{key.replace("ffn.stages", "ffn.layers")}'] = value
    return state


def _timm(swin: SwinTransformer) -> dict[str, Tensor]:
    """timm's names, where merging begins a stage."""
    state = {}
    for key, value in _official(swin).items():
        if 'downsample' in key:
            _, stage, rest = key.split('.', 2)
            key = f'layers.{int(stage) + 1}.{rest}'
        state[key] = value
    return state


@pytest.mark.parametrize('home', [_official, _openmmlab, _timm])
def test_swin_round_trip(home):
    shift_rule = 'timm' if home is _timm else 'mmdet'
    swin = _randomised(SwinTransformer(ARCH, shift_rule=shift_rule))
    result = convert(home(swin), 'swin')
    assert result.is_exact and not result.untrained
    other = MODELS.build(result.config).eval()
    other.load_state_dict(result.state)
    image = torch.randn(1, 3, 64, 80)
    for actual, expected in zip(other(image), swin(image)):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ('build', 'family'),
    [(SwinTransformer, 'swin'), (SlideSwin, 'slide_swin'), (SwinTransformer, 'swin_to_slide')],
)
def test_absolute_positions_are_kept(build, family):
    model = _randomised(build(ARCH, position_size=96))
    public = _official(model)
    public['absolute_pos_embed'] = public.pop('layers.0.position.weight')
    result = convert(public, family)
    assert result.is_exact
    assert result.config['position_size'] == 96
    other = MODELS.build(result.config).eval()
    other.load_state_dict(result.state)
    if family != 'swin_to_slide':
        image = torch.randn(1, 3, 64, 80)
        for actual, expected in zip(other(image), model(image)):
            torch.testing.assert_close(actual, expected)


@pytest.mark.slow
def test_swin_of_mmdet():
    """The same maps at a size that no window divides, where every stage is padded and masked."""
    swin = pytest.importorskip('mmdet.models.backbones.swin').SwinTransformer(
        embed_dims=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)
    )
    _randomised(swin)
    result = convert(swin.state_dict(), 'swin')
    assert result.is_exact and not result.untrained
    ours = MODELS.build(result.config).eval()
    ours.load_state_dict(result.state)
    image = torch.randn(2, 3, 290, 346)
    with torch.no_grad():
        for actual, expected in zip(ours(image), swin(image)):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def _local_attention(model: nn.Module, key: str, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Plain 3x3 attention with the projections of a baseline's first block."""
    attn = model.get_submodule(key)
    if hasattr(attn, 'qkv'):
        q, k, v = attn.qkv(x).chunk(3, -1)
    else:
        q, (k, v) = attn.q(x), attn.kv(x).chunk(2, -1)
    heads = attn.num_heads

    def windows(t: Tensor) -> Tensor:
        padded = nn.functional.unfold(t.transpose(1, 2).unflatten(2, grid), 3, padding=1)
        return padded.unflatten(1, (heads, -1, 9))

    q = q.transpose(1, 2).unflatten(1, (heads, -1)) * (q.shape[-1] // heads) ** -0.5
    weights = torch.einsum('bhdp,bhdjp->bhjp', q, windows(k)).softmax(2)
    out = torch.einsum('bhjp,bhdjp->bhdp', weights, windows(v))
    return attn.proj(out.flatten(1, 2).transpose(1, 2))


@pytest.mark.parametrize(
    ('family', 'given'),
    [('swin', None), ('pvt', None), ('pvtv2', None), ('pvtv2', (2, 2, 5, 8))],
)
def test_slide_starts_as_local_attention_with_the_baseline_projections(family, given):
    if family == 'swin':
        model = _randomised(SwinTransformer(ARCH))
        public = _official(model)
    else:
        narrow = dict(
            embed_dims=(32, 64, 160, 256), depths=(1, 1, 1, 1), num_heads=given or (1, 2, 5, 8),
            mlp_ratios=(2, 2, 2, 2),
        )  # fmt: skip
        model = _randomised(dict(pvt=PVT, pvtv2=PVTv2)[family](narrow))
        public = {}
        for key, value in model.state_dict().items():
            stage, rest = int(key.split('.')[1]) + 1, key.split('.', 2)[2]
            for ours, theirs in (
                ('patch_embed', f'patch_embed{stage}'), ('blocks', f'block{stage}'),
                ('position.weight', f'pos_embed{stage}'), ('norm.', f'norm{stage}.'),
            ):  # fmt: skip
                if rest.startswith(ours):
                    rest = theirs + rest.removeprefix(ours)
                    break
            public[rest.replace('mlp.dwconv', 'mlp.dwconv.dwconv')] = value
    result = convert(public, f'{family}_to_slide', num_heads=given)
    assert result.is_exact
    assert {reason for key, reason in result.dropped if 'attn.' in key} >= {
        'Slide attention has no such part'
    }
    slide = MODELS.build(result.config).eval()
    slide.load_state_dict(result.state)
    for key, width in (('stages.0.blocks.0.attn', 32), ('stages.1.blocks.0.attn', 64)):
        x = torch.randn(2, 20, width)
        expected = _local_attention(model, key, x, (4, 5))
        actual = slide.get_submodule(key)(x, (4, 5))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    for stage in (2, 3):  # late stages keep their weights
        for name, value in model.stages[stage].state_dict().items():
            assert torch.equal(value, slide.stages[stage].state_dict()[name])
