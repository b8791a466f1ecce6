"""Coarse matching: which cells of two images belong together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...ops import best_of_matrix, best_pairs, dual_softmax, optimal_transport, similarities
from ...ops.dual_softmax import BestPairs
from ...ops.layout import Grid
from ...registry import MODELS


class CellMatches(NamedTuple):
    """Matched cells of a batch of pairs, ordered by pair and cell.

    Attributes:
        pair (Tensor): ``(M,)``, index of the pair in the batch.
        cell0 (Tensor): ``(M,)``, row-major index of the cell in image 0.
        cell1 (Tensor): ``(M,)``, the same in image 1.
        confidence (Tensor): ``(M,)``.
    """

    pair: Tensor
    cell0: Tensor
    cell1: Tensor
    confidence: Tensor


class CoarseMatching(BaseModule):
    """Selection of mutually best pairs of cells above a threshold.

    Args:
        threshold (float): Least confidence.
        border (int): Cells from every border of either image that are not matched.

    Raises:
        ValueError: If the border is negative.
    """

    def __init__(self, threshold: float = 0.2, border: int = 2) -> None:
        super().__init__()
        if border < 0:
            raise ValueError(f'border={border} must be at least 0.')
        self.threshold = threshold
        self.border = border

    def log_assignment(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> Tensor | None:
        """Logarithm of the assignment with bins ``(B, N + 1, M + 1)``, None without bins."""
        return None

    def confidence(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> Tensor:
        """Confidence of all pairs of cells, in float32.

        Args:
            x (Tensor): Tokens ``(B, N, C)`` of image 0.
            y (Tensor): Tokens ``(B, M, C)`` of image 1.
            x_mask (Tensor, optional): Boolean ``(B, N)``, False where there is no match.
            y_mask (Tensor, optional): Boolean ``(B, M)``.

        Returns:
            Tensor: ``(B, N, M)``.
        """
        raise NotImplementedError

    def best(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> BestPairs:
        """The best partner of every cell, without gradients; arguments of :meth:`confidence`."""
        with torch.no_grad():
            return best_of_matrix(self.confidence(x, y, x_mask, y_mask))

    def select(
        self,
        best: BestPairs,
        x_grid: Grid,
        y_grid: Grid,
        x_mask: Tensor | None = None,
        y_mask: Tensor | None = None,
    ) -> CellMatches:
        """Select the matches.

        Of exact ties in a row the first column is taken.

        Args:
            best (BestPairs): The best partner of every cell.
            x_grid (tuple[int, int]): Grid of image 0.
            y_grid (tuple[int, int]): Grid of image 1.
            x_mask (Tensor, optional): Boolean ``(B, N)``; the bottom and right border are counted
                from where the image ends.
            y_mask (Tensor, optional): Boolean ``(B, M)``.

        Returns:
            CellMatches: The matches.
        """
        kept = self.keeps(best, x_grid, y_grid, x_mask, y_mask)
        pair, cell0 = kept.nonzero(as_tuple=True)
        return CellMatches(pair, cell0, best.column[pair, cell0], best.confidence[pair, cell0])

    def keeps(
        self,
        best: BestPairs,
        x_grid: Grid,
        y_grid: Grid,
        x_mask: Tensor | None = None,
        y_mask: Tensor | None = None,
    ) -> Tensor:
        """Boolean ``(B, N)``: which cells of image 0 are matched; arguments of :meth:`select`."""
        inner0 = inner_cells(x_grid, self.border, best.confidence, x_mask)
        inner1 = inner_cells(y_grid, self.border, best.confidence, y_mask)
        inner1 = inner1.expand(len(best.column), -1).gather(1, best.column)
        return (best.confidence > self.threshold) & best.mutual & inner0 & inner1


@MODELS.register_module()
class DualSoftmax(CoarseMatching):
    """Confidence as the product of the softmax over both images.

    In inference the matrix is never held: memory is linear in the cells.

    Args:
        threshold (float): Least confidence.
        border (int): Cells from every border that are not matched.
        temperature (float): Divides the similarities.

    Source: Sun et al., "LoFTR" (CVPR 2021), equation 2.
    """

    def __init__(self, threshold: float = 0.2, border: int = 2, temperature: float = 0.1) -> None:
        super().__init__(threshold, border)
        self.temperature = temperature

    def confidence(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> Tensor:
        """Confidence ``(B, N, M)``; see :meth:`CoarseMatching.confidence`."""
        return dual_softmax(similarities(x, y, self._scale(x), x_mask, y_mask))

    def best(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> BestPairs:
        """The best partner of every cell, block by block."""
        return best_pairs(x, y, self._scale(x), x_mask, y_mask)

    def _scale(self, x: Tensor) -> float:
        return 1 / (x.shape[-1] * self.temperature)


@MODELS.register_module()
class OptimalTransport(CoarseMatching):
    """Confidence as the assignment of optimal transport, with a bin for unmatched cells.

    Args:
        threshold (float): Least confidence.
        border (int): Cells from every border that are not matched.
        iterations (int): Sinkhorn iterations.
        bin_score (float): Initial score of the bins, which is learned.
        prefilter (bool): In eval mode, give no confidence to rows and columns whose largest entry
            is the bin.

    Source: Sun et al., "LoFTR" (CVPR 2021), section 3.3.
    """

    def __init__(
        self,
        threshold: float = 0.2,
        border: int = 2,
        iterations: int = 3,
        bin_score: float = 1.0,
        prefilter: bool = False,
    ) -> None:
        super().__init__(threshold, border)
        self.iterations = iterations
        self.prefilter = prefilter
        self.bin_score = nn.Parameter(torch.tensor(float(bin_score)))

    def log_assignment(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> Tensor:
        """Logarithm of the assignment with bins ``(B, N + 1, M + 1)``."""
        scores = similarities(x, y, 1 / x.shape[-1], x_mask, y_mask)
        return optimal_transport(scores, self.bin_score, self.iterations)

    def confidence(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> Tensor:
        """Confidence ``(B, N, M)``; see :meth:`CoarseMatching.confidence`."""
        return self.without_bins(self.log_assignment(x, y, x_mask, y_mask))

    def without_bins(self, log_assignment: Tensor) -> Tensor:
        """Confidence ``(B, N, M)`` of the logarithm of an assignment."""
        assignment = log_assignment.exp()
        confidence = assignment[:, :-1, :-1]
        if self.prefilter and not self.training:
            rows = assignment[:, :-1].argmax(2) == assignment.shape[2] - 1
            columns = assignment[:, :, :-1].argmax(1) == assignment.shape[1] - 1
            confidence = confidence.masked_fill(rows.unsqueeze(2) | columns.unsqueeze(1), 0)
        return confidence


def inner_cells(grid: Grid, border: int, like: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cells at least ``border`` from every border of their image.

    Args:
        grid (tuple[int, int]): ``(H, W)``.
        border (int): Width of the border in cells.
        like (Tensor): For the device.
        mask (Tensor, optional): Boolean ``(B, H*W)``; the image ends with its last True row and
            column.

    Returns:
        Tensor: Boolean ``(1 or B, H*W)``.
    """
    rows, columns = (torch.arange(side, device=like.device) for side in grid)
    H, W = (torch.tensor([side], device=like.device) for side in grid)
    if mask is not None:
        cells = mask.unflatten(1, grid)
        H = (cells.any(2) * (rows + 1)).amax(1)
        W = (cells.any(1) * (columns + 1)).amax(1)
    inner_rows = (rows >= border) & (rows < (H - border).unsqueeze(1))
    inner_columns = (columns >= border) & (columns < (W - border).unsqueeze(1))
    return (inner_rows.unsqueeze(2) & inner_columns.unsqueeze(1)).flatten(1)
