"""SkipAt (Venkataramanan et al., ICLR 2024): the parametric function Φ and the skipped layer."""

from __future__ import annotations

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import depthwise_conv, gelu_, map_to_tokens, tokens_to_map
from ..ops.layout import Grid
from ..ops.numerics import without_autocast
from ..registry import MODELS
from .block import ReusesAttention

PHI_TYPES = ('phi', 'conv', 'dwconv', 'identity')


def eca_kernel_size(embed_dims: int) -> int:
    """Return the kernel size of ECA-Net for a width (Wang et al., CVPR 2020, equation 12)."""
    size = int((math.log2(embed_dims) + 1) / 2)
    return size if size % 2 else size + 1


class ChannelGate(nn.Module):
    """Efficient channel attention: one gate per sample and channel (Wang et al., "ECA-Net").

    Args:
        embed_dims (int): Width C of the tokens.
        kernel_size (int | str): Odd number of neighbouring channels that a gate depends on, or
            ``'adaptive'`` for ECA-Net's formula.

    Raises:
        ValueError: If the kernel size is not odd.
    """

    def __init__(self, embed_dims: int, kernel_size: int | str = 3) -> None:
        super().__init__()
        size = eca_kernel_size(embed_dims) if kernel_size == 'adaptive' else kernel_size
        if not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(f"eca_kernel={kernel_size!r} must be odd, 'adaptive' or None.")
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of tokens ``(B, N, C)``; the gate is computed in float32."""
        with without_autocast(x):
            mean = x.mean(1, keepdim=True, dtype=self.conv.weight.dtype)
            gate = self.conv(mean).sigmoid()
        return x * gate.to(x.dtype)


class Phi(BaseModule):
    """Parametric function Φ that replaces an attention layer (SkipAt, section 3.2).

    Linear, GELU, depthwise convolution, GELU, Linear, channel gate; no residual connection, norm or
    dropout. Weights keep PyTorch's initialisation as in the authors' code: with ViT's truncated
    normal the output of a chain of Φ vanishes within a few layers.

    Args:
        embed_dims (int): Width C of the result.
        in_dims (int, optional): Width of the input where it differs.
        phi_kernel (int): Side of the convolution's kernel, odd.
        phi_ratio (float): Hidden width over ``embed_dims``.
        eca_kernel (int | str, optional): Kernel of the channel gate: 3 in the authors' code;
            ``'adaptive'`` for ECA-Net's formula; None for no gate.

    Other Args:
        phi_type (str): Ablation: ``'phi'`` is the published function; ``'conv'`` is one
            convolution, ``'dwconv'`` one depthwise convolution, ``'identity'`` the input.

    Raises:
        ValueError: If an option is not one of the allowed values, or the widths differ where
            ``phi_type`` cannot change them.
    """

    def __init__(
        self,
        embed_dims: int,
        in_dims: int | None = None,
        phi_type: str = 'phi',
        phi_kernel: int = 5,
        phi_ratio: float = 2.0,
        eca_kernel: int | str | None = 3,
    ) -> None:
        super().__init__()
        in_dims = embed_dims if in_dims is None else in_dims
        if phi_type not in PHI_TYPES:
            raise ValueError(f'phi_type={phi_type!r} must be one of {PHI_TYPES}.')
        if phi_kernel < 1 or phi_kernel % 2 == 0:
            raise ValueError(f'phi_kernel={phi_kernel} must be odd.')
        if in_dims != embed_dims and phi_type in ('dwconv', 'identity'):
            raise ValueError(
                f'phi_type={phi_type!r} cannot turn {in_dims} into {embed_dims} channels; '
                "use 'phi' or 'conv'."
            )
        self.phi_type = phi_type
        hidden_dims = round(phi_ratio * embed_dims)
        if phi_type == 'phi':
            self.fc1 = nn.Linear(in_dims, hidden_dims)
            self.dwconv = _conv(hidden_dims, hidden_dims, phi_kernel, groups=hidden_dims)
            self.fc2 = nn.Linear(hidden_dims, embed_dims)
            self.eca = nn.Identity() if eca_kernel is None else ChannelGate(embed_dims, eca_kernel)
        elif phi_type == 'conv':
            self.conv = _conv(in_dims, embed_dims, phi_kernel)
        elif phi_type == 'dwconv':
            self.dwconv = _conv(embed_dims, embed_dims, phi_kernel, groups=embed_dims)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Map tokens ``(B, H*W, in_dims)`` on the grid ``(H, W)`` to ``(B, H*W, C)``."""
        if self.phi_type == 'identity':
            return x
        if self.phi_type == 'conv':
            return map_to_tokens(self.conv(tokens_to_map(x, grid)))
        if self.phi_type == 'dwconv':
            return self._convolve(x, grid)
        x = gelu_(self._convolve(gelu_(self.fc1(x)), grid))
        return self.eca(self.fc2(x))

    def _convolve(self, x: Tensor, grid: Grid) -> Tensor:
        conv = self.dwconv
        return map_to_tokens(depthwise_conv(tokens_to_map(x, grid), conv.weight, conv.bias))


@MODELS.register_module()
class SkipAttention(ReusesAttention, BaseModule):
    """Attention layer of a skipped block: Φ applied to the previous block's attention output.

    Tokens before the grid (class token, registers) are copied unchanged, so consecutive skipped
    blocks repeat those of the last block with attention (SkipAt, section 3.2).

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Not used; part of the contract.
        qkv_bias (bool): Not used; part of the contract.
        **phi: Options of :class:`Phi`: ``phi_type``, ``phi_kernel``, ``phi_ratio``,
            ``eca_kernel``.
    """

    def __init__(
        self, embed_dims: int, num_heads: int | None = None, qkv_bias: bool = True, **phi
    ) -> None:
        super().__init__()
        self.phi = Phi(embed_dims, **phi)

    def forward(self, x: Tensor, grid: Grid, previous_attention: Tensor | None = None) -> Tensor:
        """Compute this block's attention output from the previous one.

        Args:
            x (Tensor): Not used.
            grid (tuple[int, int]): ``(H, W)``.
            previous_attention (Tensor): ``(B, E + H*W, C)``, with E tokens before the grid.

        Returns:
            Tensor: Of the same shape.

        Raises:
            ValueError: If no previous block has attention.
        """
        if previous_attention is None:
            raise ValueError('A skipped block needs a block before it that attends.')
        num_extra_tokens = previous_attention.shape[1] - grid[0] * grid[1]
        if num_extra_tokens == 0:
            return self.phi(previous_attention, grid)
        extra = previous_attention[:, :num_extra_tokens]
        patches = previous_attention[:, num_extra_tokens:]
        return torch.cat([extra, self.phi(patches, grid)], dim=1)


def _conv(in_dims: int, out_dims: int, kernel_size: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_dims, out_dims, kernel_size, padding=kernel_size // 2, groups=groups)
