from __future__ import annotations

from functools import reduce

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import slide_attention
from ..ops.layout import Grid
from ..ops.numerics import accurate
from ..registry import MODELS
from .attention import head_dims_of
from .init import init_linear


@MODELS.register_module()
class SlideAttention(BaseModule):
    """Slide attention: local attention whose shifts are depthwise convolutions.

    A bank of fixed one-hot kernels shifts the keys and values to every offset of the window; a
    parallel bank of learned kernels deforms the shifts. The kernels of both banks are summed before
    use, also in training. Parameters have the names and shapes of the authors' code, where only the
    *weight* of the fixed bank is frozen: its bias is trained. The rows of ``qkv`` are head-major:
    queries, keys and values of each head.

    A re-parameterised layer (:meth:`switch_to_deploy`) has one bank. State dicts of both forms load
    into both.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        kernel_size (int): Side of the window, odd.
        deploy (bool): Build the re-parameterised form.

    Other Args:
        qk_scale (float, optional): Ablation: scale of the logits; ``(C / num_heads) ** -0.5`` by
            default.
        padding_mode (str): Ablation: padding of keys and values, ``'zeros'``, ``'reflect'``,
            ``'replicate'`` or ``'circular'``.
        mask_borders (bool): Ablation: exclude offsets outside the map from the softmax. In the
            published model they are included.
        rpb (bool): Ablation: whether a relative position bias is added to the keys.
        separate_banks (bool): Ablation: a second learned bank for the values (``dep_conv2``).
        freeze_shift (bool): Ablation: whether the one-hot kernels are fixed.
        dim_reduction (int): Ablation: attend at ``C / dim_reduction`` channels, with the scale of
            ``C``, as in the authors' other uses of the module.

    Raises:
        ValueError: If ``kernel_size`` is even, or ``num_heads`` or ``dim_reduction`` does not
            divide ``embed_dims``.

    Source: Pan et al., "Slide-Transformer" (CVPR 2023).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        kernel_size: int = 3,
        qk_scale: float | None = None,
        padding_mode: str = 'zeros',
        mask_borders: bool = False,
        rpb: bool = True,
        separate_banks: bool = False,
        freeze_shift: bool = True,
        dim_reduction: int = 1,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f'kernel_size={kernel_size} must be odd; an even window has no centre.'
            )
        if dim_reduction < 1 or embed_dims % dim_reduction:
            raise ValueError(f'dim_reduction={dim_reduction} must divide embed_dims={embed_dims}.')
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.scale = qk_scale or head_dims_of(embed_dims, num_heads) ** -0.5
        self.padding_mode = padding_mode
        self.mask_borders = mask_borders
        inner_dims = embed_dims // dim_reduction
        self.head_dims = head_dims_of(inner_dims, num_heads)
        taps = kernel_size**2

        self.qkv = init_linear(nn.Linear(embed_dims, 3 * inner_dims, bias=qkv_bias))
        self.proj = init_linear(nn.Linear(inner_dims, embed_dims))
        self.dep_conv = self._bank()
        self.dep_conv1 = None if deploy else self._bank()
        self.dep_conv2 = self._bank() if separate_banks else None
        with torch.no_grad():
            self.dep_conv.weight.copy_(self._shifts())
            if deploy and self.dep_conv2 is not None:
                self.dep_conv2.weight.copy_(self._shifts())
        self.dep_conv.weight.requires_grad_(not freeze_shift)
        self.relative_position_bias_table = None
        if rpb:
            self.relative_position_bias_table = nn.Parameter(
                torch.zeros(1, num_heads, 1, taps, 1, 1)
            )
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    @property
    def deploy(self) -> bool:
        """Whether the layer is in its re-parameterised form."""
        return self.dep_conv1 is None

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply Slide attention to tokens ``(B, H*W, C)`` on the grid ``(H, W)``."""
        out = self.attend(*self.project(x, grid))
        return self.proj(out.flatten(3).flatten(1, 2))

    def project(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens to scaled queries, keys and values ``(B, H, W, heads, D)``."""
        qkv = self.qkv(x).unflatten(-1, (self.num_heads, 3, self.head_dims)).unflatten(1, grid)
        q, k, v = qkv.unbind(-2)
        return q * self.scale, k, v

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        value_bank: tuple[Tensor, Tensor] | tuple[None, None] | None = None,
    ) -> Tensor:
        """Attend to the window around every pixel.

        Args:
            q (Tensor): Scaled queries ``(B, H, W, heads, D)``.
            k (Tensor): Keys of the same shape.
            v (Tensor): Values of the same shape.
            value_bank (tuple, optional): Kernels ``(D, K, K)`` and biases ``(D, K)`` of the values;
                by default those of the layer.

        Returns:
            Tensor: ``(B, H, W, heads, D)``.
        """
        weight, bias = self._merged(self.dep_conv1)
        if value_bank is None:
            value_bank = (None, None) if self.dep_conv2 is None else self._merged(self.dep_conv2)
        table = self.relative_position_bias_table
        return slide_attention(
            q,
            k,
            v,
            weight,
            bias,
            None if table is None else table.view(self.num_heads, -1),
            value_weight=value_bank[0],
            value_bias=value_bank[1],
            padding_mode=self.padding_mode,
            mask_borders=self.mask_borders,
        )

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Re-parameterise in place: merge the fixed and the learned bank.

        A second call changes nothing.
        """
        if self.deploy:
            return
        state = self._as_deployed(self.state_dict())
        self.dep_conv1 = None
        self.load_state_dict(state)

    def _bank(self) -> nn.Conv2d:
        """Build one bank: output ``c * K + i`` is channel ``c`` at offset ``i``."""
        taps, size = self.kernel_size**2, self.kernel_size
        return nn.Conv2d(self.head_dims, self.head_dims * taps, size, groups=self.head_dims)

    def _shifts(self) -> Tensor:
        """One-hot kernels: output ``i`` of a channel is its input shifted to offset ``i``."""
        weight = self.dep_conv.weight
        shifts = torch.eye(self.kernel_size**2, dtype=weight.dtype, device=weight.device)
        return shifts.repeat(self.head_dims, 1).view_as(weight)

    def _merged(self, learned: nn.Conv2d | None) -> tuple[Tensor, Tensor]:
        """Sum the banks to kernels ``(D, K, K)`` and biases ``(D, K)``.

        In float32, so that small learned kernels are not rounded away beside the ones.
        """
        learned_banks = [] if learned is None else [learned]
        banks = learned_banks if self.deploy and learned_banks else [self.dep_conv, *learned_banks]
        weight = reduce(torch.add, (accurate(bank.weight) for bank in banks))
        bias = reduce(torch.add, (accurate(b) for b in (k.bias for k in banks) if b is not None))
        shape = (self.head_dims, self.kernel_size**2)
        return weight.flatten(1).unflatten(0, shape), bias.unflatten(0, shape)

    def _as_deployed(self, state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
        """Convert a state dict of two banks to one with the merged bank."""
        state = dict(state)
        for leaf in ('weight', 'bias'):
            fixed = state.get(f'{prefix}dep_conv.{leaf}')
            if fixed is None:  # checkpoints may leave the constant kernels out
                fixed = self._shifts()
            state[f'{prefix}dep_conv.{leaf}'] = fixed + state.pop(f'{prefix}dep_conv1.{leaf}')
            if f'{prefix}dep_conv2.{leaf}' in state:
                state[f'{prefix}dep_conv2.{leaf}'] = fixed + state[f'{prefix}dep_conv2.{leaf}']
        return state

    def _as_trained(self, state: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
        """Convert a state dict of the merged bank to one with fixed and learned banks."""
        state = dict(state)
        for leaf in ('weight', 'bias'):
            merged = state[f'{prefix}dep_conv.{leaf}']
            fixed = self._shifts().to(merged) if leaf == 'weight' else torch.zeros_like(merged)
            state[f'{prefix}dep_conv.{leaf}'] = fixed
            state[f'{prefix}dep_conv1.{leaf}'] = merged - fixed
            if f'{prefix}dep_conv2.{leaf}' in state:
                state[f'{prefix}dep_conv2.{leaf}'] = state[f'{prefix}dep_conv2.{leaf}'] - fixed
        return state

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Convert the state dict to the form of this layer, then load it."""
        is_trained = f'{prefix}dep_conv1.weight' in state_dict
        is_deployed = f'{prefix}dep_conv.weight' in state_dict and not is_trained
        state = state_dict
        if self.deploy and is_trained:
            state = self._as_deployed(state_dict, prefix)
        elif not self.deploy and is_deployed:
            state = self._as_trained(state_dict, prefix)
        elif is_trained and f'{prefix}dep_conv.weight' not in state_dict:
            state = {**state_dict, f'{prefix}dep_conv.weight': self._shifts()}
        if state is not state_dict:  # children are loaded from the same mapping
            state_dict.clear()
            state_dict.update(state)
        super()._load_from_state_dict(state_dict, prefix, *args)
