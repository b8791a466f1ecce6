"""Frozen baselines of the Slide suite; do not tune them, all ratios refer to them.

(a) ``public``: a fixed and a learned depthwise convolution for keys and for values, NCHW, as in the
authors' code, also in evaluation; (b) ``merged``: the same with the kernels summed first; (c)
``im2col``: plain local attention by ``unfold``, without a learned bank (other numbers, less work).
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.wrappers import with_forwards
from mmeffvit.layers import SlideAttention

Conv = tuple[Tensor, Tensor]
KINDS = ('public', 'merged', 'im2col')


def as_published(model: nn.Module, kind: str) -> nn.Module:
    """A copy of a model whose Slide attentions run as the baseline."""
    return with_forwards(model, {SlideAttention: partial(_attention, kind=kind)})


def attend(q: Tensor, k: Tensor, v: Tensor, banks: list[Conv], rpb: Tensor, size: int) -> Tensor:
    """The op on NCHW maps.

    Args:
        q (Tensor): Scaled queries ``(B * heads, D, H, W)``.
        k (Tensor): Keys.
        v (Tensor): Values.
        banks (list): Kernels ``(D * K, 1, k, k)`` and biases of the convolutions to add up; none
            for im2col.
        rpb (Tensor): ``(1, heads, 1, K, 1, 1)``.
        size (int): Side of the window.
    """

    def taps(x: Tensor) -> Tensor:
        if not banks:
            return F.unfold(x, size, padding=size // 2).view(shape)
        maps = [F.conv2d(x, *bank, padding=size // 2, groups=x.shape[1]) for bank in banks]
        return (maps[0] if len(maps) == 1 else maps[0] + maps[1]).view(shape)

    heads, D, grid = rpb.shape[1], q.shape[1], q.shape[2:]
    shape = (-1, heads, D, size**2, *grid)
    keys, values = taps(k), taps(v)
    if banks:
        keys = keys + rpb
    weights = (q.view(-1, heads, D, 1, *grid) * keys).sum(2, keepdim=True).softmax(3)
    return (weights * values).sum(3)


def banks_of(layer: SlideAttention, kind: str) -> list[Conv]:
    """What :func:`attend` convolves with."""
    fixed, learned = layer.dep_conv, layer.dep_conv1
    if kind == 'public':
        return [(fixed.weight, fixed.bias), (learned.weight, learned.bias)]
    if kind == 'merged':
        return [(fixed.weight + learned.weight, fixed.bias + learned.bias)]
    return []


def _attention(self: SlideAttention, x: Tensor, grid, *, kind: str) -> Tensor:
    B, N, C = x.shape
    heads, D = self.num_heads, self.head_dims
    qkv = self.qkv(x).view(B, *grid, 3 * C).permute(0, 3, 1, 2).reshape(B * heads, 3 * D, *grid)
    q, k, v = (part.contiguous() for part in qkv.chunk(3, dim=1))
    banks = banks_of(self, kind)
    out = attend(q * self.scale, k, v, banks, self.relative_position_bias_table, self.kernel_size)
    return self.proj(out.permute(0, 3, 4, 1, 2).reshape(B, N, C))
