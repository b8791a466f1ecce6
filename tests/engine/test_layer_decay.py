from __future__ import annotations

import pytest
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmeffvit.backbones import PVTv2

TINY = dict(embed_dims=(8, 8, 16, 16), depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4))
TINY['mlp_ratios'] = (2, 2, 2, 2)


class _Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(4, 4)


def _config(**paramwise) -> dict:
    return dict(
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        constructor='mmeffvit.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=paramwise,
    )


def test_rates_fall_with_depth():
    model = _Detector(PVTv2(TINY, frozen_stages=0))
    optimizer = build_optim_wrapper(model, _config(decay_rate=0.5)).optimizer
    found = {
        name: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for name in group['param_names']
    }
    assert found['head.weight'] == (1e-3, 0.05)
    assert found['head.bias'] == (1e-3, 0.0)
    # Five blocks, then the rest: the last block is one below, the first five below.
    assert found['backbone.stages.3.blocks.0.mlp.fc1.weight'] == (1e-3 / 2, 0.05)
    assert found['backbone.stages.0.blocks.0.attn.q.weight'] == (1e-3 / 32, 0.05)
    assert 'backbone.stages.0.patch_embed.proj.weight' not in found
    assert len(found) == sum(p.requires_grad for p in model.parameters())


def test_bad_arguments():
    with pytest.raises(ValueError, match='decay_rate=None'):
        build_optim_wrapper(_Detector(PVTv2(TINY)), _config())
    with pytest.raises(ValueError, match='get_layer_depth'):
        build_optim_wrapper(_Detector(nn.Linear(1, 1)), _config(decay_rate=0.5))
