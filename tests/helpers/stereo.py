"""Recorded stereo networks, and a small one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers.goldens import recipe
from mmeffvit.checkpoints import convert
from mmeffvit.checkpoints.keymap import Conversion, apply_rules
from mmeffvit.checkpoints.sttr import STTR
from mmeffvit.registry import MODELS
from mmeffvit.stereo import StereoMatching

TREE = dict(type='EpipolarTreeAttention', levels=3, topks=4)


def tiny_stereo(attention: dict | str = 'EpipolarAttention', **options) -> StereoMatching:
    """A network of 16 channels."""
    torch.manual_seed(0)
    return StereoMatching(
        features=dict(type='UNetFeatures', embed_dims=16, widths=(8, 16)),
        transformer=dict(
            type='StereoTransformer', num_heads=2, depth=2, attention=attention, with_cp=False
        ),
        regression=dict(context=dict(type='ContextAdjustment', num_blocks=1, channels=4)),
        **options,
    )


def fill_part(module: nn.Module, state: dict, public: str, ours: str) -> nn.Module:
    """Fill a part of STTR by public names that a recording holds without their prefix."""
    filled = {f'{public}{key}': value for key, value in recipe().fill_state(state).items()}
    result = Conversion()
    apply_rules(filled, STTR.rules, result)
    assert not result.unexpected
    module.load_state_dict(
        {k.removeprefix(ours): v for k, v in result.state.items() if k.startswith(ours)}
    )
    return module.eval()


def recorded_network(gold: dict, **regression) -> StereoMatching:
    """The network of a recording, converted strictly, in eval mode."""
    result = convert(recipe().fill_state(gold['state']), 'sttr')
    assert result.is_exact, (result.missing, result.unexpected, result.mismatched)
    config = {**result.config, 'stride': gold['downsample']}
    config['regression'] = {**config['regression'], 'compatible': True, **regression}
    model = MODELS.build(config)
    model.load_state_dict(result.state)
    return model.eval()


def recorded_pair(gold: dict) -> tuple[Tensor, Tensor]:
    """Left and right image of a recorded network."""
    (h, w), batch = gold['image'], gold['batch']
    base = recipe().make_input((batch, 3, h, w + 12), gold['input']['seed'], block=4)
    return base[..., :w].contiguous(), base[..., 6 : 6 + w].contiguous()
