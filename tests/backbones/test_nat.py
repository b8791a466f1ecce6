"""NAT, DiNAT and Slide-NAT: size, cost, attention of each block."""

from __future__ import annotations

import pytest
import torch

from helpers.models import num_parameters
from mmeffvit.analysis import count_complexity
from mmeffvit.backbones import NAT, DiNAT, SlideNAT
from mmeffvit.layers import NeighborhoodAttention, SlideAttention

TINY = dict(embed_dims=8, depths=(2, 2, 1, 1), num_heads=(1, 2, 2, 4), mlp_ratios=(2,) * 4)
#: Classifier of 1000 classes.
HEAD = 1000


def measured(model) -> tuple[float, float]:
    params = num_parameters(model) + (model.out_channels[-1] + 1) * HEAD
    return params, count_complexity(model).macs


@pytest.mark.parametrize(
    ('arch', 'params', 'gmacs'),
    [
        ('mini', 19984174, 2.694),
        ('tiny', 27901582, 4.295),
        ('small', 50743297, 7.772),
        ('base', 89769652, 13.676),
    ],
)
def test_nat_has_its_size_and_cost(arch, params, gmacs):
    """The papers state 28 M and 4.3 G for tiny, 51 M and 7.8 G for small."""
    with torch.device('meta'):
        found = measured(NAT(arch, out_indices=3))
    assert found == (params, pytest.approx(gmacs * 1e9, rel=0.001))


@pytest.mark.parametrize(
    ('arch', 'published_params', 'published_gmacs'), [('tiny', 28, 4.3), ('small', 51, 7.8)]
)
def test_slide_nat_is_near_the_published_size_and_cost(arch, published_params, published_gmacs):
    with torch.device('meta'):
        params, macs = measured(SlideNAT(arch, out_indices=3))
    assert params == pytest.approx(published_params * 1e6, rel=0.01)
    assert macs == pytest.approx(published_gmacs * 1e9, rel=0.02)


def layers_of(model) -> list[list]:
    return [[block.attn for block in stage.blocks] for stage in model.stages]


def test_every_second_block_is_dilated():
    dilations = [[attn.dilation for attn in stage] for stage in layers_of(DiNAT(TINY))]
    assert dilations == [[1, 8], [1, 4], [1], [1]]
    given = layers_of(NAT(TINY, dilations=(28, 14, 7, 1)))
    assert [[attn.dilation for attn in stage] for stage in given] == [[1, 28], [1, 14], [1], [1]]


def test_slide_attention_comes_first():
    kinds = [{type(attn) for attn in stage} for stage in layers_of(SlideNAT(TINY))]
    assert kinds == [{SlideAttention}] * 2 + [{NeighborhoodAttention}] * 2


def test_layer_scale_is_an_entry_of_the_arch():
    block = NAT(dict(TINY, layer_scale=0.5)).stages[0].blocks[0]
    assert torch.equal(block.scale1.weight, torch.full((8,), 0.5))
    assert not list(NAT(TINY).stages[0].blocks[0].scale1.parameters())


def test_a_dilation_per_stage():
    with pytest.raises(ValueError, match=r'dilations=\(2, 2\)'):
        NAT(TINY, dilations=(2, 2))


@pytest.mark.parametrize('build', [NAT, DiNAT, SlideNAT])
@pytest.mark.parametrize('size', [(64, 64), (75, 131), (1, 1)])
def test_any_size(build, size):
    model = build(TINY).train()
    maps = model(torch.randn(2, 3, *size))
    strides = (4, 8, 16, 32)
    assert [m.shape[2:] for m in maps] == [tuple(-(-n // s) for n in size) for s in strides]
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
