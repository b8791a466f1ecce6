"""Confidence of all pairs of two token sets by a softmax in both directions.

The matrix has as many entries as pairs of cells: 3.9 thousand million for two images of 2000x2000
pixels. :func:`best_pairs` finds the best partner of every cell without it, block by block of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .numerics import accurate, without_autocast

#: Score of pairs that a mask excludes; finite, so that a row without any pair gives numbers.
EXCLUDED = -1e9
#: Entries of the matrix that one block holds.
BLOCK_ENTRIES = 2**24


class BestPairs(NamedTuple):
    """The best partner of every row, and what is needed to tell whether the choice is mutual.

    Attributes:
        confidence (Tensor): ``(B, L)``, the largest confidence of every row.
        column (Tensor): ``(B, L)``, the column where it is.
        column_confidence (Tensor): ``(B, S)``, the largest confidence of every column.
    """

    confidence: Tensor
    column: Tensor
    column_confidence: Tensor

    @property
    def mutual(self) -> Tensor:
        """Boolean ``(B, L)``: the best column of a row has its largest confidence in this row."""
        return self.column_confidence.gather(1, self.column) == self.confidence


def similarities(
    x: Tensor, y: Tensor, scale: float, x_mask: Tensor | None = None, y_mask: Tensor | None = None
) -> Tensor:
    """Scaled dot products of two token sets, in float32 (float64 for float64 inputs).

    Args:
        x (Tensor): ``(B, L, C)``.
        y (Tensor): ``(B, S, C)``.
        scale (float): Factor of the products.
        x_mask (Tensor, optional): Boolean ``(B, L)``; other pairs get :data:`EXCLUDED`.
        y_mask (Tensor, optional): Boolean ``(B, S)``.

    Returns:
        Tensor: ``(B, L, S)``.
    """
    with without_autocast(x):
        scores = (accurate(x) * scale) @ accurate(y).transpose(1, 2)
    if x_mask is not None:
        scores = scores.masked_fill(~x_mask.unsqueeze(2), EXCLUDED)
    if y_mask is not None:
        scores = scores.masked_fill(~y_mask.unsqueeze(1), EXCLUDED)
    return scores


def dual_softmax(scores: Tensor) -> Tensor:
    """Product of the softmax over rows and the softmax over columns of ``(B, L, S)``."""
    return scores.softmax(1) * scores.softmax(2)


def best_of_matrix(confidence: Tensor) -> BestPairs:
    """Best pairs of a confidence matrix ``(B, L, S)``."""
    best, column = confidence.max(2)
    return BestPairs(best, column, confidence.amax(1))


def best_pairs(
    x: Tensor,
    y: Tensor,
    scale: float,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    block_entries: int = BLOCK_ENTRIES,
) -> BestPairs:
    """Best pairs by the dual softmax in memory linear in the tokens, without gradients.

    Two passes over blocks of rows: the normalisers of rows and columns, then the confidences, whose
    maxima are kept.

    Args:
        x (Tensor): ``(B, L, C)``.
        y (Tensor): ``(B, S, C)``.
        scale (float): Factor of the dot products.
        x_mask (Tensor, optional): Boolean ``(B, L)``, False where there is no pair.
        y_mask (Tensor, optional): Boolean ``(B, S)``.
        block_entries (int): Entries of the matrix in a block.

    Returns:
        BestPairs: As of the whole matrix.
    """
    B, L, _ = x.shape
    S = y.shape[1]
    rows = max(1, block_entries // max(1, B * S))
    starts = range(0, L, rows)

    def block(start: int) -> Tensor:
        part = slice(start, start + rows)
        mask = None if x_mask is None else x_mask[:, part]
        return similarities(x[:, part], y, scale, mask, y_mask)

    with torch.no_grad():
        column_normaliser = accurate(y).new_full((B, S), -torch.inf)
        row_normalisers = []
        for start in starts:
            scores = block(start)
            row_normalisers.append(scores.logsumexp(2))
            column_normaliser = torch.logaddexp(column_normaliser, scores.logsumexp(1))
        best = []
        column_confidence = torch.zeros_like(column_normaliser)
        for start, row_normaliser in zip(starts, row_normalisers):
            scores = block(start)
            confidence = (
                scores.mul_(2)
                .sub_(row_normaliser.unsqueeze(2))
                .sub_(column_normaliser.unsqueeze(1))
                .exp_()
            )
            best.append(confidence.max(2))
            column_confidence = torch.maximum(column_confidence, confidence.amax(1))
        confidence, column = (torch.cat(parts, 1) for parts in zip(*best))
    return BestPairs(confidence, column, column_confidence)
