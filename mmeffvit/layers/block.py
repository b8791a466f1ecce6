from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ..ops.layout import Grid
from ..registry import MODELS
from .common import DropPath, RecomputingBlock, build_layer_scale
from .mlp import ConvMlp


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
