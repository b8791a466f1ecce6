from __future__ import annotations

import pytest
import torch
from torch import nn

from mmeffvit.analysis.attention import (
    AttentionQuery,
    AttentionRecorder,
    explain_backbone,
    mean_attention,
)
from mmeffvit.backbones import (
    HierarchicalTransformer,
    SkipAtViT,
    SwinTransformer,
    VisionTransformer,
)
from mmeffvit.layers import SlideAttention, SoftmaxAttention

VIT = dict(embed_dims=16, depth=4, num_heads=2)
IMAGE = torch.randn(1, 3, 64, 48)


@pytest.mark.parametrize('class_token', [True, False])
def test_outputs_and_mean_attention(class_token):
    model = SkipAtViT(VIT, (2,), img_size=64, with_cls_token=class_token).eval()
    with AttentionRecorder(model) as recorder:
        model(torch.randn(3, 3, 64, 48))
        calls = recorder.take()
    assert [call.name for call in calls] == [f'blocks.{i}.attn' for i in range(4)]
    assert all(call.features.shape == (3, 12 + class_token, 16) for call in calls)
    assert not calls[0].features.requires_grad
    maps = [mean_attention(call, class_token, 'concat') for call in calls]
    assert [found is None for found in maps] == [False, False, True, False]
    assert all(found.shape == (3, 2, 12) for found in maps if found is not None)
    if not class_token:
        torch.testing.assert_close(maps[0].sum(-1), torch.ones(3, 2))
    assert recorder.take() == []
    assert not any(module._forward_hooks for module in model.modules())


def test_mean_attention_is_that_of_the_forward_pass():
    model = VisionTransformer(VIT, img_size=64).eval()
    with AttentionRecorder(model) as recorder:
        model(IMAGE)
        call = recorder.take()[0]
    attn, x = call.layer, call.args[0]
    values = attn.qkv(x)[..., 32:].unflatten(-1, (2, -1)).transpose(1, 2)
    weights = mean_attention(call, class_token=False, heads='concat')
    mean = torch.einsum('bhn,bhnd->bhd', weights, values).flatten(1)
    torch.testing.assert_close(attn.proj(mean), call.features.mean(1))


def test_only_full_attention_has_a_mean_map():
    """Windows have a fused projection too, but attend to a part of the tokens."""
    arch = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
    model = SwinTransformer(arch).eval()
    with AttentionRecorder(model) as recorder:
        model(IMAGE)
        calls = recorder.take()
    assert len(calls) == 4
    assert all(mean_attention(call, class_token=False) is None for call in calls)


def test_layers_are_chosen_by_name():
    model = VisionTransformer(VIT)
    recorder = AttentionRecorder(model, r'blocks\.[13]\.attn')
    assert list(recorder.layers) == ['blocks.1.attn', 'blocks.3.attn']
    with pytest.raises(ValueError, match="has a name like 'no'"):
        AttentionRecorder(model, 'no')


class UnexplainedLayer(nn.Module):
    def __init__(self, embed_dims, num_heads, qkv_bias=True):
        super().__init__()

    def forward(self, x, grid):
        return x


def stages(*attentions):
    arch = dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4, mlp_ratios=(2,) * 4)
    attentions = [dict(type=attention) for attention in attentions]
    return HierarchicalTransformer(arch, attentions=attentions).eval()


def test_layers_without_an_explanation_get_a_note():
    backbone = stages(UnexplainedLayer, SoftmaxAttention, UnexplainedLayer, SlideAttention)
    explanations = explain_backbone(backbone, IMAGE, AttentionQuery((64, 48), (30, 30)))
    assert [len(maps) for _, maps, _ in explanations] == [0, 1, 0, 1]
    assert explanations[0].note == 'no explanation is registered for UnexplainedLayer'
    assert explanations[1].note == ''


def test_a_backbone_without_any_explanation():
    backbone = stages(*[UnexplainedLayer] * 4)
    with pytest.raises(ValueError, match=r'has an explanation \(UnexplainedLayer\); register'):
        explain_backbone(backbone, IMAGE, AttentionQuery((64, 48), (30, 30)))
