"""The LookupViT block (Koner et al., "LookupViT", ECCV 2024).

Compressed tokens gather information from lookup tokens by cross-attention, are refined by a ViT
block, and are infused back into the lookup tokens with the same attention weights, transposed.
Lookup tokens otherwise pass a small MLP. Where the paper gives no details, the defaults follow from
its claim of "more than 3x fewer FLOPs".
"""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops.layout import Grid
from ..ops.lookup import Projection, lookup_gather, lookup_infuse
from .attention import SoftmaxAttention, check_heads
from .block import DropPath, Mlp, RecomputingBlock, TransformerBlock, build_layer_scale
from .init import init_linear

NORM_POSITIONS = ('post_proj', 'pre')
REUSE_NORMS = ('none', 'row')


class LookupGather(BaseModule):
    """Information gathering: cross-attention of compressed tokens to lookup tokens (algorithm 1).

    Args:
        embed_dims (int): Width D of both token sets.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        norm_position (str): ``'post_proj'`` normalises queries and keys over all D channels after
            their projections; ``'pre'`` normalises both token sets before.
        out_proj (bool): Whether an output projection follows the attention.
        attn_drop (float): Dropout of the attention weights; those returned are not dropped.
        norm_eps (float): Epsilon of both norms.

    Raises:
        ValueError: If ``norm_position`` is not one of the allowed values.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        norm_position: str = 'post_proj',
        out_proj: bool = True,
        attn_drop: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.pre_norm = _is_pre(norm_position)
        self.attn_drop = attn_drop
        self.q, self.k, self.v = (
            init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias)) for _ in range(3)
        )
        self.norm_q = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.norm_k = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims)) if out_proj else nn.Identity()

    def forward(
        self, compressed: Tensor, lookup: Tensor, grids: tuple[Grid, Grid] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gather information from the lookup tokens.

        Args:
            compressed (Tensor): Compressed tokens ``(B, M, D)``.
            lookup (Tensor): Lookup tokens ``(B, N, D)``.
            grids (tuple, optional): Grids of the compressed and the lookup tokens, for attention
                maps; the result does not depend on them.

        Returns:
            tuple: Attention output ``(B, M, D)`` and attention weights ``(B, heads, M, N)``.
        """
        if self.pre_norm:
            queries = self.q(self.norm_q(compressed))
            lookup = self.norm_k(lookup)
            keys = Projection(lookup, self.k.weight, self.k.bias)
        else:
            queries = self.norm_q(self.q(compressed))
            keys = self.norm_k(self.k(lookup))
        values = Projection(lookup, self.v.weight, self.v.bias)
        dropout = self.attn_drop if self.training else 0.0
        message, weights = lookup_gather(queries, keys, values, self.num_heads, dropout=dropout)
        return self.proj(message), weights


class LookupInfuse(BaseModule):
    """Global context infusion: compressed tokens into lookup tokens (algorithm 2).

    The attention weights of the gathering are reused, transposed.

    Args:
        embed_dims (int): Width D of both token sets.
        qkv_bias (bool): Whether the value projection has a bias.
        norm_position (str): ``'post_proj'`` normalises the values, ``'pre'`` the tokens before
            their projection.
        out_proj (bool): Whether an output projection follows; it costs as much as the lookup MLP.
        reuse_norm (str): ``'none'`` uses the weights unchanged, ``'row'`` divides them by their sum
            over the compressed tokens.
        norm_eps (float): Epsilon of the norm.

    Raises:
        ValueError: If ``norm_position`` or ``reuse_norm`` is not one of the allowed values.
    """

    def __init__(
        self,
        embed_dims: int,
        qkv_bias: bool = True,
        norm_position: str = 'post_proj',
        out_proj: bool = False,
        reuse_norm: str = 'none',
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.pre_norm = _is_pre(norm_position)
        if reuse_norm not in REUSE_NORMS:
            raise ValueError(f'reuse_norm={reuse_norm!r} must be one of {REUSE_NORMS}.')
        self.normalise = reuse_norm == 'row'
        self.v = init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias))
        self.norm_v = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims)) if out_proj else None

    def forward(self, compressed: Tensor, weights: Tensor) -> Tensor:
        """Infuse the compressed tokens into the lookup tokens.

        Args:
            compressed (Tensor): Compressed tokens ``(B, M, D)``.
            weights (Tensor): Attention weights of the gathering ``(B, heads, M, N)``.

        Returns:
            Tensor: Residual of the lookup tokens ``(B, N, D)``.
        """
        values = (
            self.v(self.norm_v(compressed)) if self.pre_norm else self.norm_v(self.v(compressed))
        )
        projection = None if self.proj is None else (self.proj.weight, self.proj.bias)
        return lookup_infuse(weights, values, projection, normalise=self.normalise)


class LookupBlock(RecomputingBlock):
    """LookupViT block: gathering, refinement, infusion and lookup MLP, each residual (algorithm 4).

    Args:
        embed_dims (int): Width D of both token sets.
        num_heads (int): Heads of the cross-attention and of the refinement.
        mlp_ratio (float): Hidden width of the refinement's MLP over D (p).
        lookup_mlp_div (float): D over the hidden width of the lookup MLP (q).
        qkv_bias (bool): Biases of the query, key and value projections.
        reuse_norm (str): ``'none'`` or ``'row'``; see :class:`LookupInfuse`.
        drop_path (float): Drop rate of the residual branches.
        attn_drop (float): Dropout of the gathering's weights.
        layer_scale (float, optional): Initial value of a learned scale per channel on the five
            residual branches.
        norm_eps (float): Epsilon of all norms.
        with_cp (bool | str): What to recompute in backward: True or ``'all'`` the block, so that
            the attention weights are not stored; ``'mlp'`` both MLPs.

    Other Args:
        norm_position (str): Ablation: ``'post_proj'`` or ``'pre'``; see :class:`LookupGather`.
        l2p_out_proj (bool): Ablation: output projection of the gathering.
        p2l_out_proj (bool): Ablation: output projection of the infusion.

    Raises:
        ValueError: If ``with_cp``, ``norm_position`` or ``reuse_norm`` is not one of the allowed
            values.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        lookup_mlp_div: float = 2.0,
        qkv_bias: bool = True,
        norm_position: str = 'post_proj',
        l2p_out_proj: bool = True,
        p2l_out_proj: bool = False,
        reuse_norm: str = 'none',
        drop_path: float = 0.0,
        attn_drop: float = 0.0,
        layer_scale: float | None = None,
        norm_eps: float = 1e-6,
        with_cp: bool | str = False,
    ) -> None:
        super().__init__(with_cp)
        self.gather = LookupGather(
            embed_dims, num_heads, qkv_bias, norm_position, l2p_out_proj, attn_drop, norm_eps
        )
        self.refine = TransformerBlock(
            embed_dims,
            SoftmaxAttention(embed_dims, num_heads, qkv_bias),
            Mlp(embed_dims, round(embed_dims * mlp_ratio)),
            drop_path,
            norm_eps,
            with_cp if with_cp == 'mlp' else False,
            layer_scale,
        )
        self.infuse = LookupInfuse(
            embed_dims, qkv_bias, norm_position, p2l_out_proj, reuse_norm, norm_eps
        )
        self.norm = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.mlp = Mlp(embed_dims, round(embed_dims / lookup_mlp_div))
        self.scale_gather, self.scale_infuse, self.scale_mlp = (
            build_layer_scale(embed_dims, layer_scale) for _ in range(3)
        )
        self.drop_path = DropPath(drop_path)

    def share(self, block: LookupBlock) -> None:
        """Share the gathering, infusion and lookup MLP of another block, but not its refinement."""
        self.gather, self.infuse, self.norm, self.mlp = (
            block.gather,
            block.infuse,
            block.norm,
            block.mlp,
        )

    def forward(
        self, compressed: Tensor, lookup: Tensor, grids: tuple[Grid, Grid] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            compressed (Tensor): Compressed tokens ``(B, M, D)``.
            lookup (Tensor): Lookup tokens ``(B, N, D)``.
            grids (tuple, optional): Grids of the compressed and the lookup tokens, for attention
                maps; the result does not depend on them.

        Returns:
            tuple: Compressed tokens ``(B, M, D)`` and lookup tokens ``(B, N, D)``.
        """
        return self.recompute('all', self._run, compressed, lookup, grids)

    def _run(
        self, compressed: Tensor, lookup: Tensor, grids: tuple[Grid, Grid] | None
    ) -> tuple[Tensor, Tensor]:
        message, weights = self.gather(compressed, lookup, grids)
        compressed = compressed + self.drop_path(self.scale_gather(message))
        compressed = self.refine(compressed, None if grids is None else grids[0])
        lookup = lookup + self.drop_path(self.scale_infuse(self.infuse(compressed, weights)))
        return compressed, self.recompute('mlp', self._feed_forward, lookup)

    def _feed_forward(self, lookup: Tensor) -> Tensor:
        return lookup + self.drop_path(self.scale_mlp(self.mlp(self.norm(lookup), grid=None)))


def _is_pre(norm_position: str) -> bool:
    if norm_position not in NORM_POSITIONS:
        raise ValueError(f'norm_position={norm_position!r} must be one of {NORM_POSITIONS}.')
    return norm_position == 'pre'
