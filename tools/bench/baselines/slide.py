"""Frozen baselines of the Slide suite; do not tune them, all ratios refer to them.

(a) ``public``: a fixed and a learned depthwise convolution for keys and for values, NCHW, as in the
authors' code, also in evaluation; (b) ``merged``: the same with the kernels summed first; (c)
``im2col``: plain local attention by ``unfold``, without a learned bank (other numbers, less work).
"""

from __future__ import annotations

import copy
import types

import torch.nn.functional as F
from torch import Tensor, nn

from mmeffvit.layers import SlideAttention

KINDS = ('public', 'merged', 'im2col')


def as_published(model: nn.Module, kind: str) -> nn.Module:
    """A copy of a model whose Slide attentions run as the baseline."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, SlideAttention):
            module.forward = types.MethodType(_attention, module)
            module.kind = kind
    return model


def _attention(self: SlideAttention, x: Tensor, grid, carrier=None) -> Tensor:
    B, N, C = x.shape
    heads, D, taps = self.num_heads, self.head_dims, self.kernel_size**2
    qkv = self.qkv(x).view(B, *grid, 3 * C).permute(0, 3, 1, 2).reshape(B * heads, 3 * D, *grid)
    q, k, v = (part.contiguous() for part in qkv.chunk(3, dim=1))
    q = (q * self.scale).view(B, heads, D, 1, *grid)
    keys, values = (_taps(self, t).view(B, heads, D, taps, *grid) for t in (k, v))
    if self.kind != 'im2col':
        keys = keys + self.relative_position_bias_table
    weights = (q * keys).sum(2, keepdim=True).softmax(3)
    out = (weights * values).sum(3).permute(0, 3, 4, 1, 2).reshape(B, N, C)
    return self.proj(out)


def _taps(self: SlideAttention, x: Tensor) -> Tensor:
    size, groups = self.kernel_size, x.shape[1]
    if self.kind == 'im2col':
        return F.unfold(x, size, padding=size // 2)

    def convolve(weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=size // 2, groups=groups)

    fixed, learned = self.dep_conv, self.dep_conv1
    if self.kind == 'merged':
        return convolve(fixed.weight + learned.weight, fixed.bias + learned.bias)
    return convolve(fixed.weight, fixed.bias) + convolve(learned.weight, learned.bias)
