"""Slide-Transformers against recorded outputs of the authors' code, through the converter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.checkpoints import convert
from mmeffvit.registry import MODELS

#: Logits of the authors' Slide-Swin: config, batch, first four, sum and sum of absolute values.
LOGITS = {
    'tiny, windows of 56': (
        dict(arch='tiny', window_size=(7, 7, 14, 7)),
        2,
        (2.01465, -0.64309, 1.06865, 0.88478, -25.50366, 1542.32970),
    ),
    'small': (
        dict(arch='small'),
        1,
        (1.38382, 0.51656, 0.00198, 1.96002, 5.41363, 805.84118),
    ),
    'base': (
        dict(arch='base'),
        1,
        (-0.51820, -0.60833, -2.24928, 0.91922, -6.38285, 754.12726),
    ),
}


def _public_swin_state(config: dict) -> dict[str, Tensor]:
    """The recipe's values for the authors' names, which depend on nothing but those names."""
    with torch.device('meta'):
        model = MODELS.build(dict(config, type='SlideSwin', out_indices=3))
    shapes = {'head.weight': (1000, model.norms['3'].weight.numel()), 'head.bias': (1000,)}
    for key, tensor in model.state_dict().items():
        if key.endswith('dep_conv.weight'):
            continue
        part = key.split('.')
        if part[0] == 'norms':
            public = f'norm.{part[2]}'
        elif part[2] == 'patch_embed':
            rest = '.'.join(part[3:])
            public = f'layers.{int(part[1]) - 1}.downsample.{rest}'
            public = f'patch_embed.{rest}' if part[1] == '0' else public
        else:
            public = key.replace('stages', 'layers')
        shapes[public] = tuple(tensor.shape)
    return recipe().fill_state(shapes)


def _run(state: dict[str, Tensor], family: str, image: Tensor, deploy: bool = False):
    """Logits, and the output of each stage's last block."""
    result = convert(state, family)
    assert result.is_exact
    model = MODELS.build(result.config).eval()
    model.load_state_dict(result.state, strict=False)
    if deploy:
        model.switch_to_deploy()
    blocks = []
    for stage in model.stages:
        stage.blocks[-1].register_forward_hook(lambda module, args, out: blocks.append(out))
    with torch.no_grad():
        pooled = model(image)[-1].mean((2, 3))
        return nn.functional.linear(pooled, state['head.weight'], state['head.bias']), blocks


def _golden_run(name: str, family: str, deploy: bool = False):
    gold = load_golden(f'slide/golden_{name}.pt')
    state = recipe().fill_state(gold['keys'])
    state = {key: value for key, value in state.items() if key not in gold['constants']}
    image = recipe().make_input(gold['input']['shape'], gold['input']['seed'])
    return gold, *_run(state, family, image, deploy)


def _check_stage(tokens: Tensor, gold: dict) -> None:
    assert relative_error(tokens[:, :: gold['step']], gold['tokens']) < 1e-4
    total = tokens.double().abs().sum().item()
    assert total == pytest.approx(gold['digest']['abs_sum'], rel=1e-5)


@pytest.mark.parametrize('deploy', [False, True])
def test_slide_swin_t(deploy):
    gold, logits, blocks = _golden_run('swin_t_w7_224', 'slide_swin', deploy)
    assert relative_error(logits, gold['logits']) < 1e-4
    for i, tokens in enumerate(blocks):
        _check_stage(tokens, gold['feats'][f'stage{i + 1}'])


def test_slide_pvtv2_b1_as_inferred():
    gold, logits, blocks = _golden_run('inferred_pvtv2_b1_160x224', 'slide_pvtv2')
    assert relative_error(logits, gold['logits']) < 1e-4
    for i, tokens in enumerate(blocks):
        _check_stage(tokens, gold['feats'][f'stage{i + 1}'])


def test_slide_pvt_t_as_inferred():
    """Stages 1 to 3: the recorded stage 4 has a class token, which dense backbones do not."""
    gold, _, blocks = _golden_run('inferred_pvt_t_224', 'slide_pvt')
    for i, tokens in enumerate(blocks[:3]):
        _check_stage(tokens, gold['feats'][f'stage{i + 1}'])


@pytest.mark.slow
@pytest.mark.parametrize('name', LOGITS)
def test_other_slide_swins(name):
    load_golden('slide/golden_swin_t_w7_224.pt')  # the recipe lies beside it
    config, batch, expected = LOGITS[name]
    image = recipe().make_input((batch, 3, 224, 224), 31)
    logits, _ = _run(_public_swin_state(config), 'slide_swin', image)
    actual = [*logits[0, :4], logits.sum(), logits.abs().sum()]
    for value, wanted in zip(actual, expected):
        assert value.item() == pytest.approx(wanted, rel=1e-4, abs=2e-3)


def test_first_stages_of_a_wide_image():
    """96x160, which the authors' late stages refuse."""
    load_golden('slide/golden_swin_t_w7_224.pt')
    image = recipe().make_input((2, 3, 96, 160), 32)
    _, blocks = _run(_public_swin_state(dict(arch='tiny')), 'slide_swin', image)
    for tokens, total, absolute in (
        (blocks[0], -11117.46213, 262611.13290),
        (blocks[1], 9651.18905, 133419.25848),
    ):
        assert tokens.double().abs().sum().item() == pytest.approx(absolute, rel=1e-5)
        assert tokens.double().sum().item() == pytest.approx(total, abs=1e-5 * absolute)
