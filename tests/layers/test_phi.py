"""Φ against recorded outputs and its definition; the skipped attention layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.layers import Phi, SkipAttention
from mmeffvit.layers.phi import eca_kernel_size

_NAMES = {'linear1.0': 'fc1', 'dwconv.0': 'dwconv', 'linear2.0': 'fc2', 'eca.conv': 'eca.conv'}


def _ours(key: str) -> str:
    name, _, leaf = key.rpartition('.')
    return f'{_NAMES[name]}.{leaf}'


@pytest.mark.parametrize(
    'name', ['ti_square', 'small_dim', 'small_dim_no_eca', 'nonsquare_patched', 'grid_32x128']
)
def test_recorded_outputs(name):
    gold = load_golden('skipat/golden_phi.pt')['cases'][name]
    build = gold['build']
    phi = Phi(build['dim'], eca_kernel=3 if build['eca'] else None)
    phi.load_state_dict({_ours(k): v for k, v in recipe().fill_state(gold['state']).items()})
    x = recipe().make_input(**gold['input']).requires_grad_()
    out = phi(x, tuple(build['hw']))
    assert relative_error(out, gold['out']) < 1e-5
    if 'grad_in' in gold:
        out.square().mean().backward()
        assert relative_error(x.grad, gold['grad_in']) < 1e-5
        for key, digest in gold['grads'].items():
            grad = phi.get_parameter(_ours(key)).grad
            assert grad.abs().sum().item() == pytest.approx(digest['abs_sum'], rel=1e-4)


def test_grid_is_not_guessed():
    """4096 tokens of a 512x2048 image are 32x128, not 64x64."""
    phi, x = Phi(4), torch.randn(1, 4096, 4)
    wide, square = phi(x, (32, 128)), phi(x, (64, 64))
    assert relative_error(wide, square) > 0.1
    turned = Phi(4)
    turned.load_state_dict(phi.state_dict())
    turned.dwconv.weight.data = phi.dwconv.weight.data.transpose(2, 3)
    columns = x.unflatten(1, (32, 128)).transpose(1, 2).flatten(1, 2)
    expected = turned(columns, (128, 32)).unflatten(1, (128, 32)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(wide, expected)


def test_gradients_in_float64():
    phi = Phi(4, in_dims=6, eca_kernel='adaptive').double()
    x = torch.randn(2, 6, 6, dtype=torch.float64, requires_grad=True)
    weights = [p.detach().requires_grad_() for p in phi.parameters()]
    names = [name for name, _ in phi.named_parameters()]

    def call(x, *weights):
        return torch.func.functional_call(phi, dict(zip(names, weights)), (x, (2, 3)))

    assert torch.autograd.gradcheck(call, (x, *weights))


@pytest.mark.parametrize('phi_type', ['conv', 'dwconv', 'identity'])
def test_ablations(phi_type):
    phi, x = Phi(6, phi_type=phi_type, phi_kernel=3), torch.randn(2, 15, 6)
    out = phi(x, (3, 5))
    if phi_type == 'identity':
        assert out is x and not list(phi.parameters())
        return
    conv = phi.conv if phi_type == 'conv' else phi.dwconv
    image = x.transpose(1, 2).reshape(2, 6, 3, 5)
    expected = F.conv2d(image, conv.weight, conv.bias, padding=1, groups=conv.groups)
    torch.testing.assert_close(out, expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize(('width', 'kernel'), [(64, 3), (192, 5), (384, 5), (768, 5)])
def test_adaptive_kernel(width, kernel):
    assert eca_kernel_size(width) == kernel


def test_gate_is_computed_in_float32_under_autocast():
    phi, x = Phi(8), torch.randn(1, 9, 8)
    expected = phi(x, (3, 3))
    with torch.autocast('cpu', torch.bfloat16):
        out = phi(x, (3, 3))
    assert relative_error(out.float(), expected) < 0.05


@pytest.mark.parametrize(
    'options',
    [
        dict(phi_type='mlp'),
        dict(phi_kernel=4),
        dict(eca_kernel=2),
        dict(in_dims=4, phi_type='identity'),
    ],
)
def test_arguments_without_meaning(options):
    with pytest.raises(ValueError):
        Phi(8, **options)


@pytest.mark.parametrize('extra', [0, 1, 3])
def test_skipped_layer_passes_extra_tokens_on(extra):
    layer, mixed = SkipAttention(8), torch.randn(2, extra + 6, 8)
    out = layer(torch.randn_like(mixed), (2, 3), mixed)
    assert torch.equal(out[:, :extra], mixed[:, :extra])
    torch.testing.assert_close(out[:, extra:], layer.phi(mixed[:, extra:], (2, 3)))


def test_skipped_layer_without_source():
    with pytest.raises(ValueError, match='attends'):
        SkipAttention(8)(torch.randn(1, 6, 8), (2, 3))
