"""Which cells of two images belong together, and which of them the fine stage learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.layout import Grid
from ..data.structures import PairSample
from ..geometry import warp_by_depth, warp_by_homography
from ..networks.coarse import CellMatches

#: Ground-truth matches that the fine stage gets at least, if it gets twice as many in all.
LEAST_TRUE = 200


class Supervision(NamedTuple):
    """True matches of a batch of pairs.

    Attributes:
        matches (CellMatches): Matched cells; their confidence is 0.
        warped (Tensor): ``(B, N, 2)``, where the point of every cell of image 0 is in image 1, in
            original pixels.
        points1 (Tensor): ``(B, M, 2)``, the points of the cells of image 1 in original pixels.
    """

    matches: CellMatches
    warped: Tensor
    points1: Tensor


def warps(sample: PairSample) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Functions that map points of image 0 to image 1, and back.

    Raises:
        ValueError: If the sample holds neither a homography nor depth and pose.
    """
    if 'homography' in sample:
        there = sample.homography
        back = torch.linalg.inv(there)
        return lambda x: warp_by_homography(x, there), lambda x: warp_by_homography(x, back)
    if 'depth0' not in sample or 'pose' not in sample:
        raise ValueError(
            'Training needs a homography, or depth maps, intrinsics and a pose, of every pair.'
        )
    first, second = sample.intrinsics0, sample.intrinsics1
    pose = sample.pose
    inverse = torch.linalg.inv(pose)
    return (
        lambda x: warp_by_depth(x, sample.depth0, first, second, pose),
        lambda x: warp_by_depth(x, sample.depth1, second, first, inverse),
    )


def cell_points(grid: Grid, stride: int, scale: Tensor, mask: Tensor | None = None) -> Tensor:
    """Points of the cells of a grid in original pixels.

    Args:
        grid (tuple[int, int]): ``(H, W)``.
        stride (int): Network pixels per cell.
        scale (Tensor): ``(2,)``, original pixels per network pixel.
        mask (Tensor, optional): Boolean ``(H*W,)``; cells outside of the image are put to (0, 0).

    Returns:
        Tensor: ``(H*W, 2)``.
    """
    rows, columns = (torch.arange(side, device=scale.device) for side in grid)
    points = torch.stack(torch.meshgrid(columns, rows, indexing='xy'), -1).flatten(0, 1)
    points = stride * points * scale
    return points if mask is None else points * mask.unsqueeze(1)


def nearest_cells(points: Tensor, grid: Grid, stride: int, scale: Tensor) -> Tensor:
    """Row-major index of the cell nearest to each point; 0 for points outside of the grid."""
    x, y = (points / (stride * scale)).round().unbind(1)
    H, W = grid
    outside = (x < 0) | (y < 0) | (x >= W) | (y >= H) | ~(x + y).isfinite()
    return torch.where(outside, 0, x + y * W).long()


def supervise(
    samples: Sequence[PairSample],
    grid0: Grid,
    grid1: Grid,
    stride: int,
    mask0: Tensor | None = None,
    mask1: Tensor | None = None,
    device: torch.device | str = 'cpu',
) -> Supervision:
    """Find the cells whose nearest cell in the other image has them as its nearest.

    Cell 0 is never matched, as all points that leave the other image are counted to it.

    Args:
        samples (Sequence[PairSample]): Ground truth of every pair.
        grid0 (tuple[int, int]): Grid of the cells of image 0.
        grid1 (tuple[int, int]): That of image 1.
        stride (int): Network pixels per cell.
        mask0 (Tensor, optional): Boolean ``(B, N)``, False outside of image 0.
        mask1 (Tensor, optional): Boolean ``(B, M)``.
        device (torch.device | str): Where the result is.

    Returns:
        Supervision: True matches.
    """
    pairs, firsts, seconds, all_warped, all_points1 = [], [], [], [], []
    for index, sample in enumerate(samples):
        scale0, scale1 = (torch.tensor(sample.scale(i), device=device) for i in (0, 1))
        points0 = cell_points(grid0, stride, scale0, None if mask0 is None else mask0[index])
        points1 = cell_points(grid1, stride, scale1, None if mask1 is None else mask1[index])
        there, back = warps(sample)
        warped = there(points0)
        nearest1 = nearest_cells(warped, grid1, stride, scale1)
        nearest0 = nearest_cells(back(points1), grid0, stride, scale0)
        cells = torch.arange(len(points0), device=device)
        mutual = nearest0[nearest1] == cells
        mutual[0] = False
        first = cells[mutual]
        pairs.append(torch.full_like(first, index))
        firsts.append(first)
        seconds.append(nearest1[mutual])
        all_warped.append(warped)
        all_points1.append(points1)
    pair, first, second = (torch.cat(parts) for parts in (pairs, firsts, seconds))
    matches = CellMatches(pair, first, second, torch.zeros(len(pair), device=device))
    return Supervision(matches, torch.stack(all_warped), torch.stack(all_points1))


def fine_targets(supervision: Supervision, matches: CellMatches, half_window: Tensor) -> Tensor:
    """Offset of the true point from the matched cell of image 1.

    Args:
        supervision (Supervision): True matches.
        matches (CellMatches): ``M`` matches that the fine stage gets.
        half_window (Tensor): ``(B, 2)``, half a window in original pixels of image 1.

    Returns:
        Tensor: ``(M, 2)`` in half windows.
    """
    true = supervision.warped[matches.pair, matches.cell0]
    cell = supervision.points1[matches.pair, matches.cell1]
    return (true - cell) / half_window[matches.pair]


def training_matches(
    predicted: CellMatches, true: CellMatches, num_cells: int, share: float
) -> CellMatches:
    """Mix predicted with true matches for the fine stage.

    There are ``share * num_cells`` matches in all, of which at least :data:`LEAST_TRUE`, or half of
    all where that is fewer (our choice, for small images), are true; both are drawn with
    replacement.

    Args:
        predicted (CellMatches): Matches of the coarse stage.
        true (CellMatches): Ground truth.
        num_cells (int): Cells of all pairs.
        share (float): Matches in all, over the cells.

    Returns:
        CellMatches: The mixture; the confidence of true ones is 0.
    """
    total = max(2, int(share * num_cells))
    least = min(LEAST_TRUE, total // 2)
    found = len(predicted.pair)
    device = true.pair.device
    if found > total - least:
        chosen = torch.randint(found, (total - least,), device=device)
        predicted = CellMatches(*(part[chosen] for part in predicted))
    count = max(total - found, least) if len(true.pair) else 0
    drawn = torch.randint(max(1, len(true.pair)), (count,), device=device)
    return CellMatches(*(torch.cat([a, b[drawn].to(a)]) for a, b in zip(predicted, true)))
