from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..ops.layout import Grid
from ..registry import MODELS
from .carrier import Carrier
from .drop import DropPath
from .scale import build_layer_scale

CHECKPOINT_MODES = (False, True, 'all', 'mlp', 'mlp_tail')


@MODELS.register_module()
class TransformerBlock(BaseModule):
    """Pre-norm block: ``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``.

    Args:
        embed_dims (int): Width C of the tokens.
        attn (nn.Module): Any attention layer of the contract ``attn(x, grid, carrier)``. One with
            ``reads_stream = False`` takes its input from the carrier and gets no ``norm1``.
        mlp (nn.Module): ``mlp(x, grid)``.
        drop_path (float): Drop rate of both residual branches.
        norm_eps (float): Epsilon of both LayerNorms.
        with_cp (bool | str): What to recompute in backward: True or ``'all'`` the block, ``'mlp'``
            the second branch; ``'mlp_tail'`` is the MLP's own affair.
        layer_scale (float, optional): Initial value of a learned scale per channel on both
            branches.

    Raises:
        ValueError: If ``with_cp`` is none of these.
    """

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
        super().__init__()
        if with_cp not in CHECKPOINT_MODES:
            raise ValueError(f'with_cp={with_cp!r} must be one of {CHECKPOINT_MODES}.')
        reads_stream = getattr(attn, 'reads_stream', True)
        self.norm1 = nn.LayerNorm(embed_dims, eps=norm_eps) if reads_stream else nn.Identity()
        self.attn = attn
        self.norm2 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.mlp = mlp
        self.scale1 = build_layer_scale(embed_dims, layer_scale)
        self.scale2 = build_layer_scale(embed_dims, layer_scale)
        self.drop_path = DropPath(drop_path)
        self.with_cp = with_cp

    def forward(
        self, x: Tensor, grid: Grid, carrier: Carrier | None = None
    ) -> tuple[Tensor, Carrier]:
        """Run the block on tokens ``(B, N, C)`` of the grid ``(H, W)``.

        Returns:
            tuple: Tokens ``(B, N, C)`` and the carrier for the next block.
        """
        recompute = self.with_cp and self.training and x.requires_grad
        if recompute and self.with_cp in (True, 'all'):
            return checkpoint(self._both, x, grid, carrier, use_reentrant=False)
        return self._both(x, grid, carrier, recompute and self.with_cp == 'mlp')

    def _both(
        self, x: Tensor, grid: Grid, carrier: Carrier | None, recompute_mlp: bool = False
    ) -> tuple[Tensor, Carrier]:
        mixed = self.attn(self.norm1(x), grid, carrier)
        x = x + self.drop_path(self.scale1(mixed))
        if recompute_mlp:
            x = checkpoint(self._second, x, grid, use_reentrant=False)
        else:
            x = self._second(x, grid)
        return x, Carrier(mixed)

    def _second(self, x: Tensor, grid: Grid) -> Tensor:
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x), grid)))
