"""Attention layers of Uformer (CVPR 2022) and of its decoder with SkipAt (ICLR 2024)."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops.layout import Grid
from ..registry import MODELS
from .block import ReusesAttention
from .phi import Phi
from .window import WindowAttention

REUSE_MODES = ('concat', 'encoder')


@MODELS.register_module()
class ModulatedWindowAttention(WindowAttention):
    """Window attention with a learned table added to every window (Uformer, section 3.3).

    Args:
        embed_dims (int): Width C of the tokens.
        *args: See :class:`WindowAttention`.
        **kwargs: See :class:`WindowAttention`.
    """

    def __init__(self, embed_dims: int, *args, **kwargs) -> None:
        super().__init__(embed_dims, *args, **kwargs)
        # An embedding table in the authors' code: it keeps the unit normal of one.
        self.modulator = nn.Parameter(torch.randn(self.window_size**2, embed_dims))

    def project(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project windows ``(B, windows, N, C)`` after adding the table to each."""
        return super().project(windows + self.modulator)


@MODELS.register_module()
class EncoderReuse(ReusesAttention, BaseModule):
    """Replacement of attention in a decoder block of SkipAt: Φ of an encoder block's output.

    The source is the attention output ``(B, H*W, source_dims)`` of the paired encoder block,
    ``previous_attention``. The paper leaves widths and concatenation open; they are our choice,
    which meets its FLOPs within 6 % (T) and 1 % (S, B).

    Args:
        embed_dims (int): Width of the decoder's tokens.
        num_heads (int): Not used; part of the contract.
        qkv_bias (bool): Not used; part of the contract.
        source_dims (int): Width of the encoder's tokens.
        mode (str): ``'concat'`` feeds Φ with the source and the block's normed tokens, hidden width
            ``embed_dims``; ``'encoder'`` only with the source, hidden width ``2 * embed_dims``.

    Raises:
        ValueError: If ``mode`` is not one of the allowed values.

    Source: SkipAt (ICLR 2024), section 4.4.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int | None = None,
        qkv_bias: bool = True,
        *,
        source_dims: int,
        mode: str = 'concat',
    ) -> None:
        super().__init__()
        if mode not in REUSE_MODES:
            raise ValueError(f'mode={mode!r} must be one of {REUSE_MODES}.')
        self.reads_stream = mode == 'concat'
        if self.reads_stream:
            self.phi = Phi(embed_dims, in_dims=source_dims + embed_dims, phi_ratio=1.0)
        else:
            self.phi = Phi(embed_dims, in_dims=source_dims)

    def forward(self, x: Tensor, grid: Grid, previous_attention: Tensor | None = None) -> Tensor:
        """Apply Φ to the encoder's attention output.

        Args:
            x (Tensor): Normed tokens ``(B, H*W, C)``, used by ``mode='concat'``.
            grid (tuple[int, int]): ``(H, W)``.
            previous_attention (Tensor): ``(B, H*W, source_dims)``.

        Returns:
            Tensor: ``(B, H*W, C)``.

        Raises:
            ValueError: If there is no such output.
        """
        if previous_attention is None:
            raise ValueError(
                'A decoder block that reuses attention needs that of its encoder block.'
            )
        if self.reads_stream:
            return self.phi(torch.cat([previous_attention, x], -1), grid)
        return self.phi(previous_attention, grid)
