"""Layers of LightViT (Huang et al., arXiv 2207.05557); DualToken-ViT uses some of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import (
    crop_tokens,
    map_to_tokens,
    merge_windows,
    pad_tokens,
    partition_windows,
    softmax_attention,
    tokens_to_map,
)
from ..ops.layout import Grid
from ..registry import MODELS
from .attention import attend, check_heads, split_heads
from .block import DropPath, RecomputingBlock
from .init import init_linear
from .patch_embed import PatchMerging
from .window import RelativePositionBias


class ConvStem(BaseModule):
    """Stem of stride 8: a convolution, three depthwise ones, a projection and LayerNorm.

    Every stride-2 convolution rounds sides up.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Width C of the tokens; the convolutions before the last have C / 2.
    """

    def __init__(self, in_channels: int, embed_dims: int) -> None:
        super().__init__()
        hidden = embed_dims // 2
        self.convs = nn.ModuleList(
            [
                ConvNormAct(in_channels, hidden, stride=2),
                ConvNormAct(hidden, hidden, groups=hidden),
                ConvNormAct(hidden, hidden, groups=hidden),
                ConvNormAct(hidden, hidden, stride=2, groups=hidden),
            ]
        )
        self.proj = nn.Conv2d(hidden, embed_dims, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(embed_dims)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Embed images ``(B, in_channels, H, W)``.

        Returns:
            tuple: Tokens ``(B, H' * W', C)`` and the grid ``(H', W')``, an eighth of the image.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = conv(x)
        x = self.proj(x)
        return self.norm(map_to_tokens(x)), (x.shape[2], x.shape[3])


class ConvNormAct(nn.Module):
    """3x3 convolution without bias, BatchNorm and GELU.

    With frozen statistics BatchNorm is folded into the convolution's weight on the fly, which saves
    a pass over the map in inference and in training with ``norm_eval``.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride.
        groups (int): Groups of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C', H', W')``."""
        conv, bn = self.conv, self.bn
        mean, variance = bn.running_mean, bn.running_var
        if bn.training or not isinstance(bn, _BatchNorm) or mean is None or variance is None:
            return F.gelu(bn(conv(x)))
        scale = bn.weight * torch.rsqrt(variance + bn.eps)
        weight = conv.weight * scale.view(-1, 1, 1, 1)
        bias = bn.bias - mean * scale
        out = F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)
        # The largest maps of the network: in inference no second one is allocated.
        return F.gelu(out) if torch.is_grad_enabled() else torch.ops.aten.gelu_(out)


class DualPatchMerging(BaseModule):
    """Patch merging of the image tokens, with a projection of the global tokens to the new width.

    Image tokens pass patch merging plus a projection of the 2x2 maximum; odd sides are padded with
    zeros at the bottom and right, which the maximum includes. Global tokens pass LayerNorm and a
    linear layer.

    Args:
        in_dims (int): Width C of image and global tokens.
        embed_dims (int): Width D of the result.
        with_tokens (bool): Whether there are global tokens.
    """

    def __init__(self, in_dims: int, embed_dims: int, with_tokens: bool = True) -> None:
        super().__init__()
        self.merging = PatchMerging(in_dims, embed_dims)
        self.residual = init_linear(nn.Linear(in_dims, embed_dims, bias=False))
        if with_tokens:
            self.token_norm = nn.LayerNorm(in_dims)
            self.token_proj = init_linear(nn.Linear(in_dims, embed_dims, bias=False))

    def forward(
        self, x: Tensor, x_global: Tensor | None, grid: Grid
    ) -> tuple[Tensor, Tensor | None, Grid]:
        """Merge patches of image tokens and project the global tokens.

        Args:
            x (Tensor): Image tokens ``(B, H*W, C)``.
            x_global (Tensor, optional): Global tokens ``(B, T, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Image tokens ``(B, H'*W', D)``, global tokens ``(B, T, D)`` or None, and the
            grid ``(H', W')`` of half the sides, rounded up.
        """
        x, grid = pad_tokens(x, grid, 2)
        feature_map = tokens_to_map(x, grid)
        maximum = map_to_tokens(F.max_pool2d(feature_map, 2))
        x, grid = self.merging(feature_map)
        x = x + self.residual(maximum)
        if x_global is not None:
            x_global = self.token_proj(self.token_norm(x_global))
        return x, x_global, grid


@MODELS.register_module()
class BiDimMlp(BaseModule):
    """Feed-forward network with bi-dimensional attention: a gate per channel and one per token.

    Args:
        embed_dims (int): Width C of the tokens.
        hidden_dims (int): Width between the two linear layers.

    Source: LightViT, section 3.3, with reduced width C / 4.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        reduced = embed_dims // 4
        self.fc1 = init_linear(nn.Linear(embed_dims, hidden_dims))
        self.fc2 = init_linear(nn.Linear(hidden_dims, embed_dims))
        self.norm = nn.LayerNorm(embed_dims)
        self.global_reduce = init_linear(nn.Linear(embed_dims, reduced))
        self.local_reduce = init_linear(nn.Linear(embed_dims, reduced))
        self.channel_select = init_linear(nn.Linear(reduced, embed_dims))
        self.spatial_select = init_linear(nn.Linear(2 * reduced, 1))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply the network to tokens ``(B, N, C)``; the grid is not used."""
        x = self.fc2(F.gelu(self.fc1(x)))
        normed = self.norm(x)
        summary = F.gelu(self.global_reduce(normed.mean(1, keepdim=True)))
        local = F.gelu(self.local_reduce(normed))
        channel_gate = self.channel_select(summary).sigmoid()
        # A linear layer on [local, summary] side by side is the sum of one on each.
        local_weight, summary_weight = self.spatial_select.weight.chunk(2, dim=1)
        logits = F.linear(local, local_weight) + F.linear(
            summary, summary_weight, self.spatial_select.bias
        )
        return x * (channel_gate * logits.sigmoid())


class LightViTAttention(RelativePositionBias, BaseModule):
    """Window attention of image tokens plus attention to global tokens that gathered the image.

    Args:
        embed_dims (int): Width C of image and global tokens.
        num_heads (int): Number of heads.
        window_size (int): Side of a window; grids that it does not divide are padded with zeros,
            which are keys of their windows like other tokens but not of the global ones.

    Source: LightViT, section 3.2. Global tokens are projected to queries only: the authors' code
    also computes their keys and values, but never uses them.
    """

    def __init__(self, embed_dims: int, num_heads: int, window_size: int = 7) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.window_size = window_size
        self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims))
        self.kv_global = init_linear(nn.Linear(embed_dims, 2 * embed_dims))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))
        self.add_relative_position_bias(window_size, num_heads)

    def forward(self, x: Tensor, x_global: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Apply window attention and attention to the global tokens.

        Args:
            x (Tensor): Normed image tokens ``(B, H*W, C)``.
            x_global (Tensor): Normed global tokens ``(B, T, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Residuals of the image tokens ``(B, H*W, C)`` and of the global tokens
            ``(B, T, C)``.
        """
        windows, padded_grid, x_global, broadcast = self.project(x, x_global, grid)
        broadcast = attend(*broadcast, self.num_heads)
        heads = (split_heads(t, self.num_heads) for t in windows.flatten(0, 1).chunk(3, dim=-1))
        out = self.attend_in_windows(*heads).transpose(1, 2).flatten(2)
        out = merge_windows(out.unflatten(0, windows.shape[:2]), padded_grid, self.window_size)
        return self.proj(crop_tokens(out, padded_grid, grid) + broadcast), self.proj(x_global)

    def project(
        self, x: Tensor, x_global: Tensor, grid: Grid
    ) -> tuple[Tensor, Grid, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Project the image tokens, let the global tokens gather from them and project these.

        Args:
            x (Tensor): Normed image tokens ``(B, H*W, C)``.
            x_global (Tensor): Normed global tokens ``(B, T, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Queries, keys and values of the padded image tokens in windows
            ``(B, windows, N, 3C)``; the padded grid; the gathered global tokens ``(B, T, C)``;
            queries ``(B, H*W, C)``, keys and values ``(B, T, C)`` of the broadcast, heads not yet
            split.
        """
        x, padded_grid = pad_tokens(x, grid, self.window_size)
        qkv = self.qkv(x)
        q, k, v = crop_tokens(qkv, padded_grid, grid).chunk(3, dim=-1)
        C = x_global.shape[-1]
        q_global = F.linear(x_global, self.qkv.weight[:C], self.qkv.bias[:C])
        gathered = attend(q_global, k, v, self.num_heads)
        k_global, v_global = self.kv_global(gathered).chunk(2, dim=-1)
        windows = partition_windows(qkv, padded_grid, self.window_size)
        return windows, padded_grid, gathered, (q, k_global, v_global)

    def attend_in_windows(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend inside each window: ``(B * windows, heads, N, D)`` to the same shape."""
        bias = self.relative_position_bias().to(q.dtype)
        return softmax_attention(q, k, v, bias.unsqueeze(0))


class LightViTBlock(RecomputingBlock):
    """Transformer block of image and global tokens: LightViT attention, then the gated MLP.

    Args:
        embed_dims (int): Width C of image and global tokens.
        num_heads (int): Number of heads.
        mlp_ratio (float): Hidden width of the MLP over C.
        drop_path (float): Drop rate of both residual branches.
        norm_eps (float): Epsilon of both norms.
        with_cp (bool | str): What to recompute in backward: True or ``'all'`` the block, ``'mlp'``
            the second branch.
        **attention: Options of :class:`LightViTAttention`.

    Attributes:
        attention_type (type): Class attribute: the attention layer.
        gates_tokens (bool): Whether the MLP takes the global tokens too. Without them its gates
            depend only on the image tokens, as in the last block of the authors' dense models.

    Raises:
        ValueError: If ``with_cp`` is not one of these values.
    """

    attention_type: type[nn.Module] = LightViTAttention
    gates_tokens = True

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        with_cp: bool | str = False,
        **attention,
    ) -> None:
        super().__init__(with_cp)
        self.norm1 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.attn = self.attention_type(embed_dims, num_heads, **attention)
        self.norm2 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.mlp = BiDimMlp(embed_dims, round(embed_dims * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, x_global: Tensor | None, grid: Grid
    ) -> tuple[Tensor, Tensor | None]:
        """Apply the block.

        Args:
            x (Tensor): Image tokens ``(B, H*W, C)``.
            x_global (Tensor, optional): Global tokens ``(B, T, C)``; None in a model without them.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Image and global tokens, of the same shapes.
        """
        return self.recompute('all', self._run, x, x_global, grid)

    def norm_tokens(self, x_global: Tensor) -> Tensor:
        """Norm the global tokens before the attention."""
        return self.norm1(x_global)

    def _run(self, x: Tensor, x_global: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor | None]:
        assert x_global is not None
        attended, update = self.attn(self.norm1(x), self.norm_tokens(x_global), grid)
        attended, update = self.drop_path.drop_jointly(attended, update)
        x, x_global = x + attended, x_global + update
        if not self.gates_tokens:
            return self.recompute('mlp', self._feed_forward, x, grid), x_global
        both = torch.cat([x_global, x], dim=1)
        both = self.recompute('mlp', self._feed_forward, both, grid)
        return both[:, x_global.shape[1] :], both[:, : x_global.shape[1]]

    def _feed_forward(self, x: Tensor, grid: Grid) -> Tensor:
        return x + self.drop_path(self.mlp(self.norm2(x), grid))
