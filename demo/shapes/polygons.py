"""Exact polygons of binary masks."""

import numpy as np


def mask_to_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Trace the outlines of a mask along the edges of its pixels.

    Vertices are pixel corners (pixel ``(x, y)`` covers ``[x, x + 1) x [y, y + 1)``), so that the
    area of the polygons is the number of pixels and a COCO rasteriser gives the mask back. Pixels
    that touch at a corner only belong to different outlines.

    Args:
        mask (np.ndarray): ``(H, W)`` bool.

    Returns:
        list[np.ndarray]: Closed outlines, each ``(K, 2)`` int ``(x, y)``. Outer outlines run
        clockwise on the screen (positive ``signed_area``), holes the other way.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    top_left, top_right = padded[:-1, :-1], padded[:-1, 1:]
    bottom_left, bottom_right = padded[1:, :-1], padded[1:, 1:]
    filled = top_left + top_right + bottom_left + bottom_right
    diagonal = (filled == 2) & (top_left == bottom_right)
    # Every vertex of a rectilinear outline; where two outlines meet, the vertex counts twice.
    ys, xs = np.nonzero((filled & 1).astype(bool) | diagonal)
    twice = 1 + diagonal[ys, xs]
    rising = np.repeat(diagonal[ys, xs] & (top_right[ys, xs] == 1), twice)
    ys, xs = np.repeat(ys, twice), np.repeat(xs, twice)
    count = len(ys)
    order = np.arange(count)
    # In row order vertices pair up to horizontal edges, in column order to vertical ones. Of a
    # double vertex the first has the left edge; it has the upper edge too, unless the pixels lie
    # along the rising diagonal: then it has the lower one.
    first = np.zeros(count, bool)
    first[:-1] = (ys[:-1] == ys[1:]) & (xs[:-1] == xs[1:])
    second = np.roll(first, 1)
    rank = np.where(first & rising, 1, np.where(second & ~rising, 1, 0))
    across = order ^ 1
    columns = np.lexsort((rank, ys, xs))
    along = np.empty(count, int)
    along[columns] = columns[order ^ 1]

    outlines = []
    unseen = np.ones(count, bool)
    for start in range(0, count, 2):
        if not unseen[start]:
            continue
        loop, here = [], start
        while unseen[here]:
            other = across[here]
            loop += [here, other]
            unseen[here] = unseen[other] = False
            here = along[other]
        # The first edge is the topmost of its outline; a hole has its empty side below.
        is_hole = not bottom_right[ys[start], xs[start]]
        outlines.append(np.stack([xs[loop], ys[loop]], 1)[:: -1 if is_hole else 1])
    return outlines


def signed_area(outline: np.ndarray) -> float:
    """Area of a closed outline ``(K, 2)``; negative if it runs counter-clockwise on the screen."""
    x, y = outline[:, 0], outline[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
