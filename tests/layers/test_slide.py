"""The Slide attention layer: published numbers, both forms, options."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from helpers.goldens import load_golden, recipe, relative_error
from helpers.models import num_parameters
from mmeffvit.layers import SlideAttention

CASES = (
    'k3', 'k3_one_head', 'k3_nonsquare', 'k5', 'k7', 'k1', 'k3_tiny_1x1', 'k3_tiny_2x1',
    'k7_map_smaller_than_window', 'k3_no_qkv_bias', 'k3_qk_scale', 'k3_reflect', 'k3_replicate',
    'k3_circular',
)  # fmt: skip


def _refilled(gold: dict) -> tuple[SlideAttention, torch.Tensor, tuple[int, int]]:
    config = gold['config']
    layer = SlideAttention(
        config['dim'],
        config['num_heads'],
        config.get('qkv_bias', True),
        kernel_size=config['ka'],
        qk_scale=config.get('qk_scale'),
        padding_mode=config.get('padding_mode', 'zeros'),
    )
    state = recipe().fill_state(gold['keys'])
    for key in gold['constants']:
        del state[key]
    layer.load_state_dict(state)
    made = gold['input']
    x = recipe().make_input(made['shape'], made['seed'], made['block'])
    return layer, x, tuple(config['input_resolution'])


def _golden_cases() -> dict:
    return load_golden('slide/golden_attention.pt')


def test_every_recorded_case_is_checked():
    assert set(_golden_cases()) == set(CASES)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('deploy', [False, True])
def test_parity_with_the_authors_module(name, deploy):
    gold = _golden_cases()[name]
    layer, x, grid = _refilled(gold)
    assert num_parameters(layer) == gold['params']['all']
    trainable = sum(p.numel() for p in layer.parameters() if p.requires_grad)
    assert trainable == gold['params']['trainable']
    if deploy:
        layer.switch_to_deploy()
    with torch.no_grad():
        assert relative_error(layer(x, grid), gold['output']) < 1e-5


@pytest.mark.parametrize('name', ['k3', 'k3_tiny_1x1', 'k5', 'k3_circular'])
def test_gradients_of_the_authors_module(name):
    gold = _golden_cases()[name]
    layer, x, grid = _refilled(gold)
    x.requires_grad_()
    out = layer(x, grid)
    out.backward(recipe().make_input(out.shape, gold['grad_seed'], gold['input']['block']))
    assert relative_error(x.grad, gold['grad_input']) < 1e-5
    for key, parameter in layer.named_parameters():
        if not parameter.requires_grad:
            assert key in gold['no_grad_params']
            continue
        expected = gold['grad_params'][key]
        if isinstance(expected, dict):
            assert parameter.grad.double().sum().item() == pytest.approx(expected['sum'], abs=1e-2)
            assert parameter.grad.double().abs().sum().item() == pytest.approx(expected['abs_sum'])
        else:
            assert relative_error(parameter.grad, expected) < 1e-5


def _layer(**options) -> SlideAttention:
    torch.manual_seed(0)
    layer = SlideAttention(16, 2, **options)
    for parameter in layer.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return layer.double()


@pytest.mark.parametrize('separate_banks', [False, True])
def test_deploy_form_is_exact_and_both_states_load_in_both_forms(separate_banks):
    trained = _layer(separate_banks=separate_banks)
    deployed = copy.deepcopy(trained)
    deployed.switch_to_deploy()
    deployed.switch_to_deploy()
    assert deployed.deploy and not any('dep_conv1' in key for key in deployed.state_dict())
    x = torch.randn(2, 12, 16, dtype=torch.float64)
    expected = trained(x, (3, 4))
    for source in (trained, deployed):
        for deploy in (False, True):
            torch.manual_seed(1)
            other = SlideAttention(16, 2, separate_banks=separate_banks, deploy=deploy).double()
            before = {key: value.clone() for key, value in source.state_dict().items()}
            host = nn.Sequential(other)  # nested, as in a backbone
            host.load_state_dict({f'0.{key}': value for key, value in before.items()})
            torch.testing.assert_close(other(x, (3, 4)), expected, rtol=0, atol=1e-12)
            assert torch.equal(other.dep_conv.weight, other._shifts()) or deploy


def test_merging_in_training_trains_what_two_convolutions_train():
    layer = _layer()
    layer(torch.randn(1, 12, 16, dtype=torch.float64), (3, 4)).sum().backward()
    assert layer.dep_conv.weight.grad is None
    torch.testing.assert_close(layer.dep_conv.bias.grad, layer.dep_conv1.bias.grad)
    assert layer.dep_conv1.weight.grad.abs().min() > 0


def test_options_change_what_they_name():
    x = torch.randn(1, 12, 16, dtype=torch.float64)
    plain = _layer()
    state = plain.state_dict()

    def output(**options):
        layer = _layer(**options)
        layer.load_state_dict(state, strict=False)
        return layer(x, (3, 4))

    for options in (dict(padding_mode='replicate'), dict(mask_borders=True), dict(rpb=False)):
        assert not torch.allclose(output(**options), plain(x, (3, 4)))
    assert _layer(freeze_shift=False).dep_conv.weight.requires_grad
    separate = _layer(separate_banks=True)
    assert separate.dep_conv2.weight.shape == separate.dep_conv1.weight.shape
    separate.load_state_dict(state, strict=False)
    separate.dep_conv2.load_state_dict(separate.dep_conv1.state_dict())
    torch.testing.assert_close(separate(x, (3, 4)), plain(x, (3, 4)))


def test_dim_reduction_keeps_the_temperature_of_the_full_width():
    layer = SlideAttention(32, 2, dim_reduction=4)
    assert layer.qkv.out_features == 24 and layer.head_dims == 4
    assert layer.scale == (32 / 2) ** -0.5
    assert layer(torch.randn(1, 6, 32), (2, 3)).shape == (1, 6, 32)


def test_half_precision_merges_in_float32():
    layer = _layer().bfloat16()
    nn.init.constant_(layer.dep_conv1.weight, 2**-12)  # lost beside a one in bfloat16
    weight, _ = layer._merged(layer.dep_conv1)
    assert weight.dtype == torch.float32 and weight.max() == 1 + 2**-12
    assert layer(torch.randn(1, 6, 16).bfloat16(), (2, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kernel_size=4), 'kernel_size=4'),
        (dict(dim_reduction=3), 'dim_reduction=3'),
        (dict(num_heads=5), 'num_heads=5'),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SlideAttention(**{**dict(embed_dims=16, num_heads=2), **options})
