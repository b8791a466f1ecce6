"""Frozen baselines of the QuadTree suite; do not tune them, all ratios refer to them.

(a) ``per-query``: keys and values are gathered once for every query, as the published value kernel
is fed; (b) ``per-group``: once for the four children of a parent, by an index expanded over the
channels. Around either, :func:`as_published` runs a backbone as the published code lays it out:
NCHW maps, separate 1x1 convolutions, ``transpose().view()`` before depthwise convolutions.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.wrappers import with_forwards
from mmeffvit.layers import ConvMlp, QuadTreeAttention


def fine_per_query(q: Tensor, k: Tensor, v: Tensor, index: Tensor, scale: float, topk: int = 0):
    """Fine level in quad order, gathering per query."""
    D = q.shape[-1]
    children = (4 * index.unsqueeze(-1) + torch.arange(4, device=q.device)).flatten(2)
    children = children.repeat_interleave(4, dim=1)  # (G, N, 4K)
    rows = children.flatten(1).unsqueeze(-1).expand(-1, -1, D)
    keys = k.gather(1, rows).view(*children.shape, D)
    weights = ((q.unsqueeze(2) * keys).sum(-1) * scale).softmax(-1)
    values = v.gather(1, rows).view(*children.shape, D)
    out = (weights.unsqueeze(-1) * values).sum(2)
    if not topk:
        return out, None
    location = weights.topk(min(topk, weights.shape[-1]), dim=-1).indices
    return out, children.gather(-1, location)


def fine_per_group(q: Tensor, k: Tensor, v: Tensor, index: Tensor, scale: float, topk: int = 0):
    """Fine level in quad order, gathering per parent."""
    D = q.shape[-1]
    children = (4 * index.unsqueeze(-1) + torch.arange(4, device=q.device)).flatten(2)
    rows = children.flatten(1).unsqueeze(-1).expand(-1, -1, D)
    keys = k.gather(1, rows).view(*children.shape, D)
    groups = q.unflatten(1, (-1, 4))
    weights = (torch.einsum('gpid,gpcd->gpic', groups, keys) * scale).softmax(-1)
    values = v.gather(1, rows).view(*children.shape, D)
    out = torch.einsum('gpic,gpcd->gpid', weights, values).flatten(1, 2)
    if not topk:
        return out, None
    location = weights.topk(min(topk, weights.shape[-1]), dim=-1).indices
    kept = children.unsqueeze(2).expand(-1, -1, 4, -1).gather(-1, location)
    return out, kept.flatten(1, 2)


def as_published(model: nn.Module, per_query: bool) -> nn.Module:
    """A copy of a model whose QuadTree attentions and MLPs run as the published code does."""
    attention = partial(_attention, per_query=per_query)
    return with_forwards(model, {QuadTreeAttention: attention, ConvMlp: _mlp})


def _mlp(self: ConvMlp, x: Tensor, grid: tuple[int, int]) -> Tensor:
    B, _, _ = x.shape
    x = self.fc1(x)
    x = self.dwconv(x.transpose(1, 2).view(B, -1, *grid)).flatten(2).transpose(1, 2)
    return self.fc2(F.gelu(x))


def _attention(self: QuadTreeAttention, x: Tensor, grid, *, per_query: bool) -> Tensor:
    B, _, C = x.shape
    heads = self.num_heads
    scale = (C // heads) ** -0.5
    image = x.transpose(1, 2).reshape(B, C, *grid)
    queries, keys, values = (
        [F.conv2d(image, layer.weight[:, :, None, None], layer.bias)]
        for layer in (self.q, self.k, self.v)
    )
    for branch in self.value_branches:
        queries.insert(0, F.avg_pool2d(queries[0], 2))
        keys.insert(0, F.avg_pool2d(keys[0], 2))
        act = F.gelu if branch.act == 'gelu' else F.relu
        value = act(branch.norm2(branch.reduce(act(branch.norm1(values[0])))))
        values.insert(0, F.conv2d(value, branch.proj.weight[:, :, None, None], branch.proj.bias))

    mix = self.level_weight.softmax(0)
    out = index = None
    for level, value_map in enumerate(values):
        h, w = value_map.shape[2:]
        q, k, v = (
            pyramid[level].view(B * heads, C // heads, h * w).transpose(1, 2)
            for pyramid in (queries, keys, values)
        )
        topk = min(self.topks[level], h * w)
        if level == 0:
            weights = (q @ k.transpose(1, 2) * scale).softmax(-1)
            index = weights.topk(topk, dim=-1).indices
            message = weights @ v
        else:
            level_of = _level_per_query if per_query else _level_per_group
            message, index = level_of(q, k, v, index, (h, w), scale, topk)
        message = message.transpose(1, 2).reshape(B, C, h, w) + self.lepe[level](value_map)
        message = mix[level] * message
        out = message if out is None else F.interpolate(out, scale_factor=2) + message
    return self.proj(out.flatten(2).transpose(1, 2))


def _children(index: Tensor, width: int) -> Tensor:
    """Raster indices of the children on a grid of ``width`` columns, ``(G, P, 4K)``."""
    y, x = 2 * (index // (width // 2)), 2 * (index % (width // 2))
    corners = [(y + a) * width + x + b for a in (0, 1) for b in (0, 1)]
    return torch.stack(corners, dim=-1).flatten(2)


def _level_per_query(q, k, v, index, grid, scale, topk):
    h, w = grid
    raster = torch.arange(h * w, device=q.device)
    parents = (raster // w // 2) * (w // 2) + raster % w // 2
    candidates = _children(index, w)[:, parents]
    rows = candidates.flatten(1).unsqueeze(-1).expand(-1, -1, q.shape[-1])
    keys = k.gather(1, rows).view(*candidates.shape, -1)
    weights = ((q.unsqueeze(2) * keys).sum(-1) * scale).softmax(-1)
    location = weights.topk(min(topk, weights.shape[-1]), dim=-1).indices
    values = v.gather(1, rows).view(*candidates.shape, -1)
    return (weights.unsqueeze(-1) * values).sum(2), candidates.gather(-1, location)


def _level_per_group(q, k, v, index, grid, scale, topk):
    h, w = grid
    raster = torch.arange(h * w, device=q.device)
    cells = raster.view(h // 2, 2, w // 2, 2).transpose(1, 2).reshape(-1)
    back = cells.argsort()
    candidates = _children(index, w)
    rows = candidates.flatten(1).unsqueeze(-1).expand(-1, -1, q.shape[-1])
    keys = k.gather(1, rows).view(*candidates.shape, -1)
    groups = q[:, cells].unflatten(1, (-1, 4))
    weights = (torch.einsum('gpid,gpcd->gpic', groups, keys) * scale).softmax(-1)
    location = weights.topk(min(topk, weights.shape[-1]), dim=-1).indices
    kept = candidates.unsqueeze(2).expand(-1, -1, 4, -1).gather(-1, location)
    values = v.gather(1, rows).view(*candidates.shape, -1)
    out = torch.einsum('gpic,gpcd->gpid', weights, values)
    return out.flatten(1, 2)[:, back], kept.flatten(1, 2)[:, back]
