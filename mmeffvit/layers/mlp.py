from __future__ import annotations

from typing import cast

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..ops import gelu_, map_to_tokens, tokens_to_map
from ..ops.layout import Grid
from ..registry import MODELS
from .common import init_linear, make_depthwise_conv


@MODELS.register_module()
class Mlp(BaseModule):
    """Feed-forward network of a transformer block: Linear, GELU, Linear.

    Args:
        embed_dims (int): Width C of the tokens.
        hidden_dims (int): Width between the two linear layers.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = init_linear(nn.Linear(embed_dims, hidden_dims))
        self.fc2 = init_linear(nn.Linear(hidden_dims, embed_dims))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Apply the network to tokens ``(B, N, C)``; the grid is not used."""
        return self.fc2(gelu_(self.fc1(x)))


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
