from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import crop_tokens, from_quad, map_to_tokens, pad_tokens, to_quad, tokens_to_map
from ..ops.layout import Grid, divide_up, same_sizes
from ..ops.numerics import accurate
from ..ops.quadtree import KINDS, quadtree_attention
from ..registry import MODELS
from .attention import check_heads, split_heads
from .init import init_conv, init_linear, make_depthwise_conv

_ACTIVATIONS = {'gelu': F.gelu, 'relu': F.relu}
#: What the activation of the value branches can be.
VALUE_ACTS = tuple(_ACTIVATIONS)


class QuadTreePyramids(NamedTuple):
    """Projected tokens of :class:`QuadTreeAttention` on all levels, coarsest first, in quad order.

    Attributes:
        queries (list[Tensor]): Per level ``(B, heads, Nq_l, D)``.
        keys (list[Tensor]): Per level ``(B, heads, Nk_l, D)``.
        values (list[Tensor]): Per level ``(B, Nk_l, C)``, heads not yet split; the coarsest levels
            may have none, see :func:`mmeffvit.ops.quadtree_attention`.
        key_masks (list[Tensor], optional): Per level a boolean ``(B or 1, Nk_l)``, False where a
            key must not be attended to; None if all are visible.
        raster_values (Tensor): The finest values in row-major order ``(B, Nk, C)``.
        padded_grid (tuple[int, int]): Grid of the finest queries.
        topks (tuple[int, ...]): Per level the keys that a query keeps.
    """

    queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    key_masks: list[Tensor] | None
    raster_values: Tensor
    padded_grid: Grid
    topks: tuple[int, ...]


@MODELS.register_module()
class QuadTreeAttention(BaseModule):
    """QuadTree attention: coarse-to-fine attention to the best keys of a token pyramid.

    A grid that ``2 ** (levels - 1)`` does not divide is padded at the bottom and right. Padding is
    never attended to, excluded from averages and GroupNorm statistics, and zero for convolutions,
    so the result does not depend on it. Self-attention takes keys and values from ``x``,
    cross-attention from ``context``, whose grid may differ.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        qkv_bias (bool): Whether the query, key and value projections have biases.
        levels (int): Levels of the pyramid; 1 is full attention.
        topks (int | Sequence[int]): Keys kept per query, coarsest level first, or one number for
            all levels. Clamped to the number of candidates.
        kind (str): ``'A'`` or ``'B'`` (section 3.2 of the paper).
        lepe (bool): Kind ``'B'``: add a depthwise convolution of the values to the output of every
            level.
        value_branch (bool): Kind ``'B'``: reduce values by a learned branch instead of averages.
            Not for cross-attention, whose values the authors average.
        value_act (str): Activation of the value branch: ``'gelu'`` in the authors' classification
            code, ``'relu'`` in their detection and segmentation code, with the same parameter
            names.
        max_coarse_grid (int, optional): Longest side of the coarsest grid, which is attended to in
            full: larger images get more levels, so that time and memory stay linear in their size.
            The added levels have no parameters and keep ``topks[0]`` keys per query. In kind
            ``'A'`` they are levels like the others, with averaged values; in kind ``'B'``, where a
            level needs weights of its own, they only choose the keys of the next one. Not in the
            paper; by default the number of levels is fixed.

    Other Args:
        drop_lone_level (bool): Compatibility, kind ``'A'`` with one level: exclude the ``topks[0]``
            best keys from the sum as the authors' code does, which never adds them back. By default
            the only level is treated as the finest.

    Raises:
        ValueError: If an option is not one of the allowed values.

    Source: Tang et al., "QuadTree Attention for Vision Transformers" (ICLR 2022).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        levels: int = 3,
        topks: int | Sequence[int] = 8,
        kind: str = 'B',
        lepe: bool = True,
        value_branch: bool = True,
        value_act: str = 'gelu',
        max_coarse_grid: int | None = None,
        drop_lone_level: bool = False,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        if kind not in KINDS:
            raise ValueError(f"QuadTree attention has kinds 'A' and 'B', not {kind!r}.")
        if levels < 1:
            raise ValueError(f'levels={levels} must be at least 1.')
        if max_coarse_grid is not None and max_coarse_grid < 1:
            raise ValueError(f'max_coarse_grid={max_coarse_grid} must be at least 1, or None.')
        if value_act not in _ACTIVATIONS:
            raise ValueError(f'value_act={value_act!r} must be one of {VALUE_ACTS}.')
        self.num_heads = num_heads
        self.levels = levels
        self.topks = (topks,) * levels if isinstance(topks, int) else tuple(topks)
        if len(self.topks) < levels or min(self.topks) < 1:
            raise ValueError(f'topks={topks} must hold {levels} positive numbers.')
        self.kind = kind
        self.max_coarse_grid = max_coarse_grid
        self.drop_lone_level = drop_lone_level
        # The authors' projections are 1x1 convolutions, initialised by PVT's rule for those.
        self.q, self.k, self.v = (
            init_linear(nn.Linear(embed_dims, embed_dims, bias=qkv_bias), (2 / embed_dims) ** 0.5)
            for _ in range(3)
        )
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))
        self.level_weight = self.lepe = self.value_branches = None
        if kind == 'B':
            self.level_weight = nn.Parameter(torch.randn(levels))
            if lepe:  # coarsest level first, as level_weight
                self.lepe = nn.ModuleList(make_depthwise_conv(embed_dims) for _ in range(levels))
            if value_branch:  # finest transition first
                self.value_branches = nn.ModuleList(
                    ValueBranch(embed_dims, value_act) for _ in range(levels - 1)
                )

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        *,
        context: Tensor | None = None,
        context_grid: Grid | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """Apply QuadTree attention.

        Args:
            x (Tensor): Query tokens ``(B, H*W, C)``.
            grid (tuple[int, int]): Their grid ``(H, W)``.
            context (Tensor, optional): Key tokens ``(B, H'*W', C)`` of cross-attention.
            context_grid (tuple[int, int], optional): Their grid.
            key_mask (Tensor, optional): Boolean ``(B, H'*W')``, False where a key must not be
                attended to.

        Returns:
            Tensor: Tokens ``(B, H*W, C)``.

        Raises:
            ValueError: If a context comes without its grid, or to a layer with a value branch or
                LePE, which exist for self-attention only.
        """
        pyramids = self.project(x, grid, context, context_grid, key_mask)
        padded_grid, halvings = pyramids.padded_grid, len(pyramids.queries) - 1
        level_weights = None
        if self.level_weight is not None:
            level_weights = accurate(self.level_weight).softmax(0)
        # out = sum_l w_l (A_l V_l + LePE_l) with w = softmax(level_weight) (section 3.2 of the
        # paper, kind B). The op adds the LePE of the coarser levels; that of the finest is added
        # below in row-major order, where its convolution already is.
        out = quadtree_attention(
            pyramids.queries,
            pyramids.keys,
            [split_heads(value, self.num_heads) for value in pyramids.values],
            pyramids.topks,
            self.kind,
            level_weights=level_weights,
            position=self._coarse_lepe(pyramids.values, padded_grid, halvings),
            key_masks=pyramids.key_masks,
            drop_lone_level=self.drop_lone_level,
        )
        out = from_quad(out.to(pyramids.raster_values.dtype), padded_grid, halvings)
        if self.lepe is not None and level_weights is not None:
            lepe = self._convolve(self.lepe[-1], pyramids.raster_values, padded_grid)
            out = torch.addcmul(out, lepe, level_weights[-1])
        return self.proj(crop_tokens(out, padded_grid, grid))

    def project(
        self,
        x: Tensor,
        grid: Grid,
        context: Tensor | None = None,
        context_grid: Grid | None = None,
        key_mask: Tensor | None = None,
    ) -> QuadTreePyramids:
        """Project the tokens to queries, keys and values, and reduce these to pyramids.

        Args:
            x (Tensor): See :meth:`forward`, as for the others.
            grid (tuple[int, int]): Grid of ``x``.
            context (Tensor, optional): Key tokens.
            context_grid (tuple[int, int], optional): Their grid.
            key_mask (Tensor, optional): Visible keys.

        Returns:
            QuadTreePyramids: Queries, keys, values and masks.

        Raises:
            ValueError: See :meth:`forward`.
        """
        if context is None:
            context, context_grid = x, grid
        elif context_grid is None:
            raise ValueError('Cross-attention needs context_grid, the (H, W) of its context.')
        elif self.lepe is not None or self.value_branches:
            raise ValueError('Cross-attention needs a layer with lepe=False, value_branch=False.')
        assert context_grid is not None
        halvings = self._halvings(grid, context_grid)
        divisor = 2**halvings

        q, padded_grid = pad_tokens(self.q(x), grid, divisor)
        q_masks = self._masks(q, grid, padded_grid, halvings)
        k, padded_context_grid = pad_tokens(self.k(context), context_grid, divisor)
        v, _ = pad_tokens(self.v(context), context_grid, divisor)
        key_masks = self._masks(k, context_grid, padded_context_grid, halvings, key_mask)
        if key_mask is not None and key_masks is not None:
            visible = from_quad(key_masks[-1][:, None, :, None], padded_context_grid, halvings)
            k, v = k * visible, v * visible

        finest_queries = to_quad(q, padded_grid, halvings, self.num_heads)
        finest_keys = to_quad(k, padded_context_grid, halvings, self.num_heads)
        finest_values = to_quad(v, padded_context_grid, halvings).squeeze(1)
        queries = self._average_pyramid(finest_queries, halvings, q_masks)
        keys = self._average_pyramid(finest_keys, halvings, key_masks)
        if self.value_branches:
            values = self._value_pyramid(finest_values, key_masks)
        else:
            reductions = halvings if self.kind == 'A' else self.levels - 1
            values = self._average_pyramid(finest_values, reductions, key_masks)
        topks = (self.topks[0],) * (halvings + 1 - self.levels) + self.topks[: self.levels]
        return QuadTreePyramids(queries, keys, values, key_masks, v, padded_grid, topks)

    def _halvings(self, *grids: Grid) -> int:
        """How often grids are halved to the coarsest level."""
        halvings = self.levels - 1
        if self.max_coarse_grid is not None:
            longest = max(side for grid in grids for side in grid)
            while divide_up(longest, 2**halvings) > self.max_coarse_grid:
                halvings += 1
        return halvings

    @staticmethod
    def _masks(
        tokens: Tensor, grid: Grid, padded_grid: Grid, halvings: int, mask: Tensor | None = None
    ) -> list[Tensor] | None:
        """Visible positions per level ``(B or 1, N_l)``, coarsest first; None if all are."""
        if mask is None:
            if same_sizes(grid, padded_grid):
                return None
            mask = tokens.new_ones(1, grid[0] * grid[1], dtype=torch.bool)
        mask, _ = pad_tokens(mask.unsqueeze(-1), grid, 2**halvings)
        masks = [to_quad(mask, padded_grid, halvings)[:, 0, :, 0]]
        for _ in range(halvings):
            masks.insert(0, masks[0].unflatten(1, (-1, 4)).any(-1))
        return masks

    @staticmethod
    def _average_pyramid(finest: Tensor, halvings: int, masks: list[Tensor] | None) -> list[Tensor]:
        """Average over visible children, level by level.

        Args:
            finest (Tensor): Tokens ``(..., N, D)`` in quad order.
            halvings (int): Number of coarser levels.
            masks (list[Tensor], optional): Visible positions per level, coarsest first.

        Returns:
            list[Tensor]: Per level ``(..., N_l, D)``, coarsest first.
        """
        pyramid = [finest]
        for i in range(halvings):
            children = pyramid[0].unflatten(-2, (-1, 4))
            if masks is None:
                pyramid.insert(0, children.mean(-2))
                continue
            visible = masks[-1 - i].unflatten(1, (-1, 4)).to(finest.dtype)
            share = visible / visible.sum(-1, keepdim=True).clamp(min=1)
            share = share.unsqueeze(1) if finest.ndim == 4 else share
            pyramid.insert(0, (children * share.unsqueeze(-1)).sum(-2))
        return pyramid

    def _value_pyramid(self, finest: Tensor, masks: list[Tensor] | None) -> list[Tensor]:
        """Reduce values ``(B, N, C)`` by the value branches; see :meth:`_average_pyramid`."""
        pyramid = [finest]
        for i, branch in enumerate(self.value_branches or ()):
            pair = (None, None) if masks is None else (masks[-1 - i], masks[-2 - i])
            pyramid.insert(0, branch(pyramid[0], *pair))
        return pyramid

    def _coarse_lepe(
        self, values: list[Tensor], grid: Grid, halvings: int
    ) -> list[Tensor | None] | None:
        """LePE ``(B, heads, N_l, D)`` of all levels but the finest, for which it is None."""
        if self.lepe is None:
            return None
        messages = []
        for level in range(self.levels - 1):
            finer = self.levels - 1 - level
            level_grid = (grid[0] >> finer, grid[1] >> finer)
            raster = from_quad(values[level].unsqueeze(1), level_grid, halvings - finer)
            message = self._convolve(self.lepe[level], raster, level_grid)
            messages.append(to_quad(message, level_grid, halvings - finer, self.num_heads))
        return [*messages, None]

    @staticmethod
    def _convolve(conv: nn.Module, tokens: Tensor, grid: Grid) -> Tensor:
        return map_to_tokens(conv(tokens_to_map(tokens, grid)))


class ValueBranch(nn.Module):
    """Learned 2x2 reduction of values: norm, activation, 2x2 convolution, norm, activation, linear.

    Args:
        embed_dims (int): Width C of the tokens.
        act (str): Activation, ``'gelu'`` or ``'relu'``.
    """

    def __init__(self, embed_dims: int, act: str) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, embed_dims)
        self.reduce = init_conv(nn.Conv2d(embed_dims, embed_dims, 2, 2))
        self.norm2 = nn.GroupNorm(1, embed_dims)
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims), (2 / embed_dims) ** 0.5)
        self.act = act

    def forward(
        self, x: Tensor, fine_mask: Tensor | None = None, coarse_mask: Tensor | None = None
    ) -> Tensor:
        """Reduce tokens ``(B, N, C)`` in quad order to ``(B, N / 4, C)``.

        Args:
            x (Tensor): Values, zero where not visible.
            fine_mask (Tensor, optional): Visible positions ``(B or 1, N)``.
            coarse_mask (Tensor, optional): Visible positions ``(B or 1, N / 4)``.

        Returns:
            Tensor: Coarser values, zero where not visible.
        """
        act = _ACTIVATIONS[self.act]
        x = _visible(act(_group_norm(x, self.norm1, fine_mask)), fine_mask)
        # The four children of a node are neighbours in memory: the 2x2 convolution is a product.
        weight = self.reduce.weight.permute(0, 2, 3, 1).flatten(1)
        x = F.linear(x.unflatten(1, (x.shape[1] // 4, 4)).flatten(2), weight, self.reduce.bias)
        x = act(_group_norm(_visible(x, coarse_mask), self.norm2, coarse_mask))
        return _visible(self.proj(x), coarse_mask)


def _visible(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask.unsqueeze(-1)


def _group_norm(x: Tensor, norm: nn.GroupNorm, mask: Tensor | None) -> Tensor:
    """GroupNorm with one group on tokens ``(B, N, C)``, statistics over visible ones."""
    if mask is None:
        flat = x.flatten(1)
        normed = F.layer_norm(flat, flat.shape[1:], eps=norm.eps).view_as(x)
        return torch.addcmul(norm.bias, normed, norm.weight)
    count = mask.sum(1).clamp(min=1).view(-1, 1, 1) * x.shape[-1]
    mean = x.sum((1, 2), keepdim=True) / count
    centred = _visible(x - mean, mask)
    variance = centred.square().sum((1, 2), keepdim=True) / count
    return torch.addcmul(norm.bias, centred * (variance + norm.eps).rsqrt(), norm.weight)
