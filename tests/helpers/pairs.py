"""Recorded matchers, and what tests of matching share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers.goldens import recipe
from mmeffvit.checkpoints import convert
from mmeffvit.checkpoints.keymap import Conversion, apply_rules
from mmeffvit.checkpoints.matcher import MATCHER
from mmeffvit.matching import FeatureMatcher
from mmeffvit.registry import MODELS

TREE = dict(type='QuadTreeAttention', levels=3, topks=(8, 4, 4), lepe=False, value_branch=False)


def tiny_matcher(variant: str = 'tree', **coarse) -> FeatureMatcher:
    """A matcher of 32 channels: with the tree, linear or full attention, or transport."""
    torch.manual_seed(0)
    block = dict(type='CrossBlock' if variant in ('tree', 'transport') else 'LoFTRBlock')
    attention = {
        'linear': dict(type='LinearAttention'),
        'full': dict(type='FullAttention'),
    }.get(variant, TREE)
    kind = 'OptimalTransport' if variant == 'transport' else 'DualSoftmax'
    return FeatureMatcher(
        backbone=dict(type='ResNetFPN', initial_dims=8, block_dims=(8, 16, 32)),
        transformer=dict(
            type='MatchingTransformer',
            num_heads=2,
            attention=attention,
            block=block,
            kinds=('self', 'cross'),
        ),
        coarse=dict(type=kind, **coarse),
        fine=dict(num_heads=2),
    )


def sub_state(state: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}


def fill_part(module: nn.Module, state: dict, public: str, ours: str) -> nn.Module:
    """Fill a part of a matcher by public names that a recording holds without their prefix."""
    filled = {f'{public}{key}': value for key, value in recipe().fill_state(state).items()}
    result = Conversion()
    apply_rules(filled, MATCHER.rules, result)
    assert not result.unexpected
    module.load_state_dict(sub_state(result.state, ours))
    return module.eval()


def recorded_matcher(gold: dict) -> nn.Module:
    """The matcher of a recording, converted strictly, in eval mode."""
    recorded = gold['config']
    result = convert(recipe().fill_state(gold['state']), 'matcher')
    assert result.is_exact, (result.missing, result.unexpected, result.mismatched)
    config = result.config
    config['transformer']['attention']['topks'] = tuple(recorded['coarse']['topks'])
    coarse = recorded['match_coarse']
    config['coarse'].update(
        threshold=coarse['thr'],
        border=coarse['border_rm'],
        temperature=coarse['dsmax_temperature'],
    )
    model = MODELS.build({**config, 'mask_padding': False})
    model.load_state_dict(result.state)
    return model.eval()


def recorded_images(gold: dict) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Images and cell masks of a recorded matcher."""
    make, seed, batch = recipe().make_input, gold['input']['seed'], gold['batch']
    (h0, w0), (h1, w1) = gold['sizes']
    base = make((batch, 1, 320, 320), seed, block=4)
    image0 = (0.5 + 0.15 * base[:, :, :h0, :w0]).clamp(0, 1)
    moved = base[:, :, 8 : 8 + h1, 16 : 16 + w1] + 0.1 * make((batch, 1, h1, w1), seed + 1, block=0)
    image1 = (0.5 + 0.15 * moved).clamp(0, 1)
    masks = valid_masks(gold['masks'], batch, [(h0 // 8, w0 // 8), (h1 // 8, w1 // 8)])
    images = [
        image if mask is None else image * up(mask) for image, mask in zip((image0, image1), masks)
    ]
    return *images, masks


def up(mask: Tensor) -> Tensor:
    """Cells to pixels."""
    return mask.repeat_interleave(8, 1).repeat_interleave(8, 2).unsqueeze(1)


def valid_masks(valid: list | None, batch: int, grids: list) -> list[Tensor | None]:
    """Masks of recordings: element 0 is all valid, element 1 in ``[:h, :w]``."""
    if valid is None:
        return [None, None]
    masks = []
    for (h, w), grid in zip(valid, grids):
        mask = torch.ones(batch, *grid, dtype=torch.bool)
        mask[1:] = False
        mask[1:, :h, :w] = True
        masks.append(mask)
    return masks
