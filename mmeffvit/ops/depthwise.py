"""Depthwise convolution with a backward pass that is fast for large kernels on CPUs.

oneDNN has a fast kernel for the weight gradient of a 3x3 depthwise convolution and a slow one for
larger kernels (25 times slower at 5x5). A larger kernel is covered by 3x3 windows, each the
weight gradient of a 3x3 convolution of a shifted input; a shift is an offset into one zero-padded
buffer, so nothing is copied per window. The input gradient is a forward convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dispatch import Op
from .operators import register


def _reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    padding = int(weight.shape[-1]) // 2  # torch.jit.trace takes sizes for tensors
    return F.conv2d(x, weight, bias, padding=padding, groups=len(weight))


def _fast(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not _helps(x, weight):
        return _reference(x, weight, bias)
    return _DepthwiseConv.apply(*_autocast(x, weight, bias))


def _helps(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == 'cpu' and weight.shape[-1] > 3 and torch.is_grad_enabled()


def _autocast(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    if not torch.is_autocast_enabled('cpu'):
        return x, weight, bias
    dtype = torch.get_autocast_dtype('cpu')
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _reference(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad = grad.contiguous(memory_format=torch.channels_last)
        return (
            _reference(grad, weight.flip(2, 3)) if needs_x else None,
            _weight_gradient(x, grad, weight.shape[-1]) if needs_weight else None,
            _bias_gradient(grad) if needs_bias else None,
        )


def _bias_gradient(grad: Tensor) -> Tensor:
    return grad.permute(0, 2, 3, 1).flatten(0, 2).sum(0)


def _weight_gradient(x: Tensor, grad: Tensor, kernel_size: int) -> Tensor:
    """Gradient ``(C, 1, k, k)`` from the input and the output's gradient ``(B, C, H, W)``."""
    B, C, H, W = x.shape
    radius = kernel_size // 2
    ring = (radius + 1) // 2  # zeros around a row; two rings meet, so a shift never meets data
    shape, reach = (B, H + 2 * ring, W + 2 * ring, C), (radius - 1) * (W + 2 * ring + 1) * C
    size = shape[0] * shape[1] * shape[2] * shape[3]
    inner = (slice(None), slice(ring, ring + H), slice(ring, ring + W))
    dtype = torch.promote_types(x.dtype, torch.float32)  # half precision is summed in float32
    buffer = x.new_zeros(size + 2 * reach, dtype=dtype)
    buffer[reach : reach + size].view(shape)[inner] = x.permute(0, 2, 3, 1)
    padded = x.new_zeros(shape, dtype=dtype)
    padded[inner] = grad.permute(0, 2, 3, 1)
    padded = padded.permute(0, 3, 1, 2)

    out = x.new_empty(C, 1, kernel_size, kernel_size)
    window = x.new_empty(C, 1, 3, 3, dtype=dtype)
    for i in range(0, kernel_size - 2, 2):
        for j in range(0, kernel_size - 2, 2):
            shift = reach + ((i - radius + 1) * shape[2] + j - radius + 1) * C
            shifted = buffer[shift : shift + size].view(shape).permute(0, 3, 1, 2)
            _, gradient, _ = torch.ops.aten.convolution_backward(
                padded, shifted, window, None, [1, 1], [1, 1], [1, 1], False, [0, 0], C,
                [False, True, False],
            )  # fmt: skip
            out[:, :, i : i + 3, j : j + 3] = gradient
    return out


def _compiled(backend: str, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not _helps(x, weight):
        return _reference(x, weight, bias)
    x, weight, bias = _autocast(x, weight, bias)
    # The operator's maps are (B, H, W, C), whose layout has no two readings.
    out = torch.ops.mmeffvit.depthwise_conv(x.permute(0, 2, 3, 1).contiguous(), weight, bias)
    return out.permute(0, 3, 1, 2)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _reference(x.permute(0, 3, 1, 2), weight, bias).permute(0, 2, 3, 1).contiguous()


def _backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad, x = (t.permute(0, 3, 1, 2) for t in (grad.contiguous(), x))
    grad_x = _reference(grad, weight.flip(2, 3)).permute(0, 2, 3, 1).contiguous()
    return grad_x, _weight_gradient(x, grad, weight.shape[-1]), _bias_gradient(grad)


def _fake_backward(grad, x, weight):
    grads = (x.new_empty(x.shape), weight.new_empty(weight.shape))
    return *grads, x.new_empty(weight.shape[0])


def _setup_context(ctx, inputs, output) -> None:
    x, weight, bias = inputs
    ctx.save_for_backward(x, weight)
    ctx.has_bias = bias is not None


def _differentiate(ctx, grad):
    *grads, grad_bias = torch.ops.mmeffvit.depthwise_conv_backward(grad, *ctx.saved_tensors)
    return *grads, grad_bias if ctx.has_bias else None


def _flops(x, weight, *_, out_shape, **__) -> int:
    B, H, W, C = x
    return 2 * B * C * H * W * weight[2] * weight[3]


register(
    'depthwise_conv_backward(Tensor grad, Tensor x, Tensor weight) -> (Tensor, Tensor, Tensor)',
    _backward,
    _fake_backward,
    flops=lambda grad, x, weight, **_: 2 * _flops(x, weight, out_shape=None),
)
register(
    'depthwise_conv(Tensor x, Tensor weight, Tensor? bias) -> Tensor',
    _forward,
    lambda x, weight, bias: x.new_empty(x.shape),
    flops=_flops,
    backward=_differentiate,
    setup_context=_setup_context,
)
_depthwise_conv = Op('depthwise_conv', _reference, _fast, compiled=_compiled)


def depthwise_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Depthwise convolution of stride 1 that keeps the size of the map.

    Args:
        x (Tensor): ``(B, C, H, W)``, channels-last for speed.
        weight (Tensor): ``(C, 1, k, k)`` with odd ``k``.
        bias (Tensor, optional): ``(C,)``.
        backend (str, optional): See :mod:`mmeffvit.ops.dispatch`.

    Returns:
        Tensor: ``(B, C, H, W)``.
    """
    return _depthwise_conv(x, weight, bias, backend=backend)
