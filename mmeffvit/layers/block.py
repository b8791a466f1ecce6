"""Transformer block and its parts: contract of attention, MLPs, drop path, layer scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, cast

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..ops import gelu_, map_to_tokens, quick_gelu, tokens_to_map
from ..ops.layout import Grid
from ..registry import MODELS
from .init import init_linear, make_depthwise_conv


class ReusesAttention:
    """Mixin of attention layers that reuse the attention output of an earlier block.

    Their block calls them as ``attn(x, grid, previous_attention)``, where other layers are called
    as ``attn(x, grid)``. ``previous_attention`` is what the attention layer of the earlier block
    returned, ``(B, N, C)``, before layer scale and drop path.

    Attributes:
        reads_stream (bool): Whether the layer also reads ``x``, the normed tokens of its block. If
            not, the block has no ``norm1``.
    """

    reads_stream: bool = False


class RecomputingBlock(BaseModule):
    """Base class of blocks with activation checkpointing of the whole block or a part of it.

    Attributes:
        checkpoint_modes (tuple): Allowed values of ``with_cp``; True means ``'all'``.

    Args:
        with_cp (bool | str): The part that is recomputed in backward.

    Raises:
        ValueError: If ``with_cp`` is not one of :attr:`checkpoint_modes`.
    """

    checkpoint_modes: ClassVar[tuple[bool | str, ...]] = (False, True, 'all', 'mlp')

    def __init__(self, with_cp: bool | str = False) -> None:
        super().__init__()
        if with_cp not in self.checkpoint_modes:
            raise ValueError(f'with_cp={with_cp!r} must be one of {self.checkpoint_modes}.')
        self.with_cp = with_cp

    def recompute(self, part: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function(*args)``; recompute it in backward if ``with_cp`` names this part."""
        tensors = (arg for arg in args if isinstance(arg, Tensor))
        chosen = 'all' if self.with_cp is True else self.with_cp
        if chosen != part or not self.training or not any(x.requires_grad for x in tensors):
            return function(*args)
        norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]
        if not norms or torch.compiler.is_compiling():
            return checkpoint(function, *args, use_reentrant=False)
        contexts = nullcontext(), _Untracked(norms)  # or they would count the batch twice
        return checkpoint(function, *args, use_reentrant=False, context_fn=lambda: contexts)


class _Untracked:
    """Context in which BatchNorms update copies of their running statistics.

    Args:
        norms (Sequence[_BatchNorm]): The norms.
    """

    def __init__(self, norms: Sequence[_BatchNorm]) -> None:
        self.norms = norms

    def __enter__(self) -> None:
        self.buffers = [dict(norm.named_buffers(recurse=False)) for norm in self.norms]
        for norm, buffers in zip(self.norms, self.buffers):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())

    def __exit__(self, *_) -> None:
        for norm, buffers in zip(self.norms, self.buffers):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)


@MODELS.register_module()
class TransformerBlock(RecomputingBlock):
    """Pre-norm block: ``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``.

    Args:
        embed_dims (int): Width C of the tokens.
        attn (nn.Module): Attention layer, ``attn(x, grid)``, or a :class:`ReusesAttention`.
        mlp (nn.Module): ``mlp(x, grid)``.
        drop_path (float): Drop rate of both residual branches.
        norm_eps (float): Epsilon of both LayerNorms.
        with_cp (bool | str): What to recompute in backward: True or ``'all'`` the block, ``'mlp'``
            the second branch, ``'mlp_tail'`` what follows the MLP's first linear layer, which
            :class:`~mmeffvit.layers.ConvMlp` implements.
        layer_scale (float, optional): Initial value of a learned scale per channel on both
            branches.

    Raises:
        ValueError: If ``with_cp`` is not one of these values, or ``'mlp_tail'`` with another MLP.
    """

    checkpoint_modes = (*RecomputingBlock.checkpoint_modes, 'mlp_tail')

    def __init__(
        self,
        embed_dims: int,
        attn: nn.Module,
        mlp: nn.Module,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
        with_cp: bool | str = False,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__(with_cp)
        if with_cp == 'mlp_tail':
            if not isinstance(mlp, ConvMlp):
                raise ValueError(
                    f"with_cp='mlp_tail' needs an MLP with a convolution, ConvMlp, instead of "
                    f"{type(mlp).__name__}; use 'mlp' or 'all'."
                )
            mlp.checkpoint_tail = True  # pyright: ignore[reportArgumentType]
        self.reuses_attention = isinstance(attn, ReusesAttention)
        if self.reuses_attention and not attn.reads_stream:
            self.norm1 = nn.Identity()
        else:
            self.norm1 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.mlp = mlp
        self.scale1 = build_layer_scale(embed_dims, layer_scale)
        self.scale2 = build_layer_scale(embed_dims, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        previous_attention: Tensor | None = None,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            x (Tensor): Tokens ``(B, N, C)``.
            grid (tuple[int, int]): Their grid ``(H, W)``.
            previous_attention (Tensor, optional): Attention output of an earlier block, for a layer
                that reuses it.
            return_attention (bool): Also return this block's attention output, for a later block.

        Returns:
            Tensor | tuple: Tokens ``(B, N, C)``; with ``return_attention`` also the output of the
            attention layer, ``(B, N, C)``.
        """
        out = self.recompute('all', self._run, x, grid, previous_attention, return_attention)
        return out if return_attention else out[0]

    def _run(
        self, x: Tensor, grid: Grid, previous_attention: Tensor | None, return_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        reused = (previous_attention,) if self.reuses_attention else ()
        attended = self.attn(self.norm1(x), grid, *reused)
        x = x + self.drop_path(self.scale1(attended))
        if not return_attention:
            attended = None  # not kept alive during the MLP
        return self.recompute('mlp', self._feed_forward, x, grid), attended

    def _feed_forward(self, x: Tensor, grid: Grid) -> Tensor:
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x), grid)))


def run_blocks(
    blocks: nn.ModuleList, x: Tensor, grid: Grid, indices: Iterable[int] = (-1,)
) -> list[Tensor]:
    """Apply blocks one after another, and pass attention outputs to blocks that reuse them.

    Args:
        blocks (nn.ModuleList): Blocks, ``block(x, grid) -> x``; only a
            :class:`TransformerBlock` can reuse an attention output or return one.
        x (Tensor): Tokens ``(B, N, C)``.
        grid (tuple[int, int]): Their grid ``(H, W)``.
        indices (Iterable[int]): Blocks whose tokens are returned, ascending.

    Returns:
        list[Tensor]: The tokens after each of these blocks.
    """
    wanted = [index % len(blocks) for index in indices]
    outs, previous = [], None
    for i, block in enumerate(blocks):
        reused = (previous,) if _reuses(block) else ()
        if i + 1 < len(blocks) and _reuses(blocks[i + 1]):
            x, previous = block(x, grid, *reused, return_attention=True)
        else:
            x, previous = block(x, grid, *reused), None
        if i in wanted:
            outs.append(x)
    return outs


def _reuses(block: nn.Module) -> bool:
    return isinstance(block, TransformerBlock) and block.reuses_attention


@MODELS.register_module()
class Mlp(BaseModule):
    """Feed-forward network of a transformer block: Linear, GELU, Linear.

    Args:
        embed_dims (int): Width C of the tokens.
        hidden_dims (int): Width between the two linear layers.
        activation (str): ``'gelu'``, exact, or ``'quick_gelu'``, that of OpenAI's CLIP.

    Raises:
        ValueError: If ``activation`` is not one of these.
    """

    activations: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = dict(
        gelu=gelu_, quick_gelu=quick_gelu
    )

    def __init__(self, embed_dims: int, hidden_dims: int, activation: str = 'gelu') -> None:
        super().__init__()
        if activation not in self.activations:
            raise ValueError(
                f'activation={activation!r} must be one of {", ".join(self.activations)}.'
            )
        self.activation = activation
        self.fc1 = init_linear(nn.Linear(embed_dims, hidden_dims))
        self.fc2 = init_linear(nn.Linear(hidden_dims, embed_dims))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply the network to tokens ``(B, N, C)``; the grid is not used."""
        return self.fc2(self.activations[self.activation](self.fc1(x)))


@MODELS.register_module()
class ConvMlp(BaseModule):
    """Feed-forward network with a 3x3 depthwise convolution before GELU (PVTv2, section 3.3).

    Args:
        embed_dims (int): Width C of the tokens.
        hidden_dims (int): Width between the two linear layers.
        relu (bool): Whether a ReLU precedes the convolution, as in PVTv2-Li.
        checkpoint_tail (bool): In training, store only the output of the first linear layer and
            recompute the convolution and GELU in backward; no matrix product is repeated.
    """

    def __init__(
        self,
        embed_dims: int,
        hidden_dims: int,
        checkpoint_tail: bool = False,
        relu: bool = False,
    ) -> None:
        super().__init__()
        self.fc1 = init_linear(nn.Linear(embed_dims, hidden_dims))
        self.dwconv = make_depthwise_conv(hidden_dims)
        self.fc2 = init_linear(nn.Linear(hidden_dims, embed_dims))
        self.checkpoint_tail = checkpoint_tail
        self.relu = relu

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply the network to tokens ``(B, H*W, C)`` on the grid ``(H, W)``."""
        x = self.fc1(x)
        if self.checkpoint_tail and self.training and x.requires_grad:
            out = checkpoint(self._tail, x, grid, use_reentrant=False)
            return cast(Tensor, out)
        return self._tail(x, grid)

    def _tail(self, x: Tensor, grid: Grid) -> Tensor:
        x = x.relu() if self.relu else x
        x = map_to_tokens(self.dwconv(tokens_to_map(x, grid)))
        return self.fc2(gelu_(x))


class DropPath(nn.Module):
    """Per-sample stochastic depth of a residual branch (Huang et al., ECCV 2016).

    Args:
        drop_prob (float): Probability in [0, 1) of zeroing a sample's branch in training; kept
            branches are scaled by ``1 / (1 - drop_prob)``.

    Raises:
        ValueError: If ``drop_prob`` is outside [0, 1).
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f'drop_prob={drop_prob} must be in [0, 1).')
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of ``x`` of shape ``(B, ...)``."""
        return self.drop_jointly(x)[0]

    def drop_jointly(self, *branches: Tensor) -> tuple[Tensor, ...]:
        """Drop the same samples of several branches ``(B, ...)``."""
        if not self.training or self.drop_prob == 0:
            return branches
        keep = 1 - self.drop_prob
        mask = branches[0].new_empty(len(branches[0])).bernoulli_(keep).div_(keep)
        return tuple(branch * mask.view(-1, *(1,) * (branch.ndim - 1)) for branch in branches)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f'drop_prob={self.drop_prob}'


def drop_path_schedule(rate: float, num_blocks: int) -> list[float]:
    """Return drop rates that grow linearly from 0 in the first block to ``rate`` in the last."""
    return [rate * i / max(1, num_blocks - 1) for i in range(num_blocks)]


class LayerScale(nn.Module):
    """Learned scale per channel of a residual branch (Touvron et al., "CaiT", section 2.2).

    Args:
        embed_dims (int): Width C of the tokens.
        value (float): Initial value of all scales.
    """

    def __init__(self, embed_dims: int, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((embed_dims,), float(value)))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply tokens ``(B, N, C)`` by the scales."""
        return x * self.weight


def build_layer_scale(embed_dims: int, value: float | None) -> nn.Module:
    """Build a :class:`LayerScale`, or an identity if ``value`` is None."""
    return nn.Identity() if value is None else LayerScale(embed_dims, value)
