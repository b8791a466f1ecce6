"""DualToken-ViT as its public code computes it, frozen: maps in NCHW, explicit softmax, no folding.

Same parameters and numbers as ours; only layouts and order of work differ.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.wrappers import with_forwards
from mmeffvit.layers.dualtoken import AveragePooling, ConvEncoder, DualTokenAttention
from mmeffvit.layers.lightvit import BiDimMlp, ConvNormAct, ConvStem


def as_published(model: nn.Module) -> nn.Module:
    """A copy of a DualTokenViT that computes like the public code; parameters are shared."""
    forwards = {
        ConvStem: _stem,
        ConvNormAct: _conv_norm_act,
        ConvEncoder: _conv_encoder,
        AveragePooling: _pooling,
        DualTokenAttention: _attention,
        BiDimMlp: _gated_mlp,
    }
    return with_forwards(model, forwards, share=True)


def _stem(self: ConvStem, x: Tensor):
    for conv in self.convs:
        x = conv(x)
    x = self.proj(x)
    return self.norm(x.flatten(2).transpose(1, 2)), tuple(x.shape[2:])


def _conv_norm_act(self: ConvNormAct, x: Tensor) -> Tensor:
    return F.gelu(self.bn(self.conv(x)))


def _to_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)


def _conv_encoder(self: ConvEncoder, x: Tensor, grid: tuple[int, int]) -> Tensor:
    shortcut = _to_map(x, grid)
    x = self.norm(self.dwconv(shortcut).permute(0, 2, 3, 1))
    x = self.gamma * self.fc2(F.gelu(self.fc1(x)))
    return (shortcut + x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)


def _pooling(self: AveragePooling, x: Tensor, grid: tuple[int, int]):
    x = F.avg_pool2d(_to_map(x, grid), self.kernel_size)
    for conv, norm in zip(self.convs, self.norms):
        x = F.relu(norm(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        x = F.avg_pool2d(x, self.kernel_size)
    return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])


def _heads(x: Tensor, parts: int, num_heads: int) -> Tensor:
    B, N, C = x.shape
    return x.reshape(B, N, parts, num_heads, C // parts // num_heads).permute(2, 0, 3, 1, 4)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _attention(self: DualTokenAttention, x: Tensor, g: Tensor, grid: tuple[int, int]):
    if self.local is None:
        local = aggregated = _attend(*_heads(self.qkv(x), 3, self.num_heads))
    else:
        local = self.local(x, grid)
        pooled, grid = self.pool(local, grid)
        aggregated = _attend(*_heads(self.qkv(pooled), 3, self.num_heads))
    update = self.tokens(g, aggregated, grid)
    (q,) = _heads(self.q(x), 1, self.num_heads)
    broadcast = _attend(q, *_heads(self.kv(update), 2, self.num_heads))
    return self.proj(local + broadcast), update


def _gated_mlp(self: BiDimMlp, x: Tensor, grid: tuple[int, int]) -> Tensor:
    x = self.fc2(F.gelu(self.fc1(x)))
    normed = self.norm(x)
    summary = F.gelu(self.global_reduce(normed.mean(1, keepdim=True)))
    local = F.gelu(self.local_reduce(normed))
    channels = self.channel_select(summary).sigmoid()
    both = torch.cat([local, summary.expand(-1, local.shape[1], -1)], dim=-1)
    return x * (channels * self.spatial_select(both).sigmoid())
