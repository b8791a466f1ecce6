"""Attention along epipolar lines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...layers.attention import check_heads, split_heads
from ...ops import sine_positions
from ...ops.line_attention import line_logits, tree_line_attention
from ...registry import MODELS

#: Relative positions of one or more levels, finest first.
Tables = Sequence[Tensor] | None


def relative_positions(width: int, channels: int, spacing: float, like: Tensor) -> Tensor:
    """Sine table of the differences of places on a line.

    Row ``r`` is of the difference ``(width - 1 - r) * spacing``.

    Args:
        width (int): Tokens of a line.
        channels (int): Width C of the table.
        spacing (float): Pixels between two tokens.
        like (Tensor): For type and device.

    Returns:
        Tensor: ``(2 * width - 1, C)``.

    Source: section 3.2 of the STTR paper.
    """
    rows = torch.arange(2 * width - 1, device=like.device, dtype=torch.float32)
    return sine_positions((width - 1 - rows) * spacing, channels).to(like.dtype)


@MODELS.register_module()
class EpipolarAttention(BaseModule):
    """Multi-head attention of every token of a line to all tokens of one, with relative positions.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.

    Attributes:
        levels (int): Tables of relative positions that the layer takes.

    Source: Li et al., "Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective
    with Transformers" (ICCV 2021), section 3.2.
    """

    levels = 1

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        self.num_heads = num_heads
        self.in_proj = nn.Linear(embed_dims, 3 * embed_dims)
        self.out_proj = nn.Linear(embed_dims, embed_dims)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, context: Tensor, tables: Tables = None) -> Tensor:
        """Apply attention.

        Args:
            x (Tensor): Query tokens ``(lines, W, C)``.
            context (Tensor): Key tokens ``(lines, W, C)``.
            tables (Sequence[Tensor], optional): One table ``(2 W - 1, C)``.

        Returns:
            Tensor: ``(lines, W, C)``.
        """
        weights = self.logits(x, context, tables).softmax(-1)
        values = self._project(context, 2)
        out = weights.to(values.dtype) @ values
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def logits(self, x: Tensor, context: Tensor, tables: Tables = None) -> Tensor:
        """Logits before the softmax, ``(lines, heads, W, W)`` in float32; see :meth:`forward`."""
        q, k = self._project(x, 0), self._project(context, 1)
        table = (None, None)
        if tables is not None:
            table = self._project_table(tables[0], 0), self._project_table(tables[0], 1)
        return line_logits(q, k, *table, scale=q.shape[-1] ** -0.5)

    def _project(self, tokens: Tensor, part: int) -> Tensor:
        """Queries, keys or values ``(lines, heads, W, D)``."""
        C = self.out_proj.in_features
        rows = slice(part * C, (part + 1) * C)
        projected = F.linear(tokens, self.in_proj.weight[rows], self.in_proj.bias[rows])
        return split_heads(projected, self.num_heads)

    def _project_table(self, table: Tensor, part: int) -> Tensor:
        """Table ``(2 W - 1, C)`` as ``(heads, 2 W - 1, D)``."""
        return self._project(table.unsqueeze(0), part).squeeze(0)


@MODELS.register_module()
class EpipolarTreeAttention(EpipolarAttention):
    """QuadTree attention along lines: a binary tree over each line of tokens.

    The authors' code of stereo is not public, and the paper does not say how. Our choices: queries,
    keys and values are averaged by two along the line only, as STTR attends along lines; kinds A
    and B are those of QuadTree attention with two children in place of four; relative positions
    enter on every level, of the distance between the cells' centres. With one level it is
    :class:`EpipolarAttention`.

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        levels (int): Levels of the tree; 1 is full attention.
        topks (int | Sequence[int]): Keys kept per query, coarsest level first, or one number for
            all levels. Clamped to the number of candidates.
        kind (str): ``'A'`` or ``'B'``.

    Raises:
        ValueError: If an option is not one of the allowed values.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        levels: int = 3,
        topks: int | Sequence[int] = 6,
        kind: str = 'B',
    ) -> None:
        super().__init__(embed_dims, num_heads)
        if kind not in ('A', 'B'):
            raise ValueError(f"kind={kind!r} must be 'A' or 'B'.")
        if levels < 1:
            raise ValueError(f'levels={levels} must be at least 1.')
        self.levels = levels
        self.topks = (topks,) * levels if isinstance(topks, int) else tuple(topks)
        if len(self.topks) < levels or min(self.topks) < 1:
            raise ValueError(f'topks={topks} must hold {levels} positive numbers.')
        self.kind = kind
        self.level_weight = nn.Parameter(torch.zeros(levels)) if kind == 'B' else None

    def forward(self, x: Tensor, context: Tensor, tables: Tables = None) -> Tensor:
        """Apply attention.

        Args:
            x (Tensor): Query tokens ``(lines, W, C)``.
            context (Tensor): Key tokens ``(lines, W, C)``.
            tables (Sequence[Tensor], optional): Per level, finest first, a table
                ``(2 W_l - 1, C)`` of the line padded to a multiple of ``2 ** (levels - 1)`` tokens;
                see :meth:`line_widths`.

        Returns:
            Tensor: ``(lines, W, C)``.
        """
        W = x.shape[1]
        padded = self.line_widths(W)[0]
        visible = None
        if padded != W:
            visible = torch.arange(padded, device=x.device) < W
        q, k, v = (
            F.pad(self._project(tokens, part), (0, 0, 0, padded - W))
            for part, tokens in enumerate((x, context, context))
        )
        masks = self._masks(visible)
        queries, keys, values = (self._pyramid(tokens, masks) for tokens in (q, k, v))
        q_tables = k_tables = None
        if tables is not None:
            q_tables, k_tables = (
                [self._project_table(table, part) for table in reversed(tables)] for part in (0, 1)
            )
        weights = None if self.level_weight is None else self.level_weight.softmax(0)
        out = tree_line_attention(
            queries,
            keys,
            values,
            self.topks,
            self.kind,
            q_tables=q_tables,
            k_tables=k_tables,
            level_weights=weights,
            key_masks=masks,
        )
        out = out[:, :, :W].to(x.dtype)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def line_widths(self, width: int) -> list[int]:
        """Tokens of a line on every level, finest first, after padding."""
        return tree_widths(width, self.levels)

    def logits(self, x: Tensor, context: Tensor, tables: Tables = None) -> Tensor:
        """Logits of full attention with the same projections, of the finest level."""
        if tables is not None:  # of the line without padding
            W, rows = x.shape[1], len(tables[0])
            surplus = (rows - (2 * W - 1)) // 2
            tables = [tables[0][surplus : rows - surplus]]
        return super().logits(x, context, tables)

    def _masks(self, visible: Tensor | None) -> list[Tensor] | None:
        if visible is None:
            return None
        masks = [visible]
        for _ in range(self.levels - 1):
            masks.insert(0, masks[0].unflatten(0, (-1, 2)).any(-1))
        return masks

    def _pyramid(self, finest: Tensor, masks: list[Tensor] | None) -> list[Tensor]:
        """Averages over visible neighbours, coarsest first."""
        pyramid = [finest]
        for level in range(self.levels - 1, 0, -1):
            pairs = pyramid[0].unflatten(2, (-1, 2))
            if masks is None:
                pyramid.insert(0, pairs.mean(3))
                continue
            seen = masks[level].unflatten(0, (-1, 2)).to(finest.dtype)
            share = seen / seen.sum(-1, keepdim=True).clamp(min=1)
            pyramid.insert(0, (pairs * share.unsqueeze(-1)).sum(3))
        return pyramid


def tree_widths(width: int, levels: int) -> list[int]:
    """Tokens of a line on every level of a tree, finest first, after padding."""
    coarsest = -(-width // 2 ** (levels - 1))
    return [coarsest * 2 ** (levels - 1 - level) for level in range(levels)]
