from __future__ import annotations

import torch
from torch import Tensor

from .numerics import accurate, without_autocast


def optimal_transport(
    scores: Tensor, bin_score: Tensor, iterations: int, rows_first: bool = True
) -> Tensor:
    """Assign rows to columns by entropic optimal transport, with a bin for those without partner.

    Sinkhorn iterations in the log domain, in float32 (float64 for float64 inputs). Every row and
    column has the mass 1; the bin of the rows has as much as there are rows, that of the columns as
    much as there are columns.

    Args:
        scores (Tensor): ``(..., m, n)``; ``-inf`` forbids a pair.
        bin_score (Tensor): Score of no partner, a scalar.
        iterations (int): Updates of both potentials.
        rows_first (bool): Which potential is updated first, and so which sums are exact at the end:
            those of the columns if True, those of the rows if False.

    Returns:
        Tensor: Logarithm of the assignment ``(..., m + 1, n + 1)``, the bins last.

    Source: Sarlin et al., "SuperGlue" (CVPR 2020), section 3.2; Cuturi, "Sinkhorn Distances"
    (NeurIPS 2013).
    """
    with without_autocast(scores):
        scores = accurate(scores)
        *batch, m, n = scores.shape
        bin_score = bin_score.to(scores)
        couplings = torch.cat(
            [
                torch.cat([scores, bin_score.expand(*batch, m, 1)], -1),
                bin_score.expand(*batch, 1, n + 1),
            ],
            -2,
        )
        total = scores.new_tensor(m + n).log()
        log_rows, log_columns = (
            torch.cat([-total.expand(size), scores.new_tensor([other]).log() - total])
            for size, other in ((m, n), (n, m))
        )
        rows = torch.zeros_like(couplings[..., 0])
        columns = torch.zeros_like(couplings[..., 0, :])
        for _ in range(iterations):
            if rows_first:
                rows = log_rows - torch.logsumexp(couplings + columns.unsqueeze(-2), -1)
            columns = log_columns - torch.logsumexp(couplings + rows.unsqueeze(-1), -2)
            if not rows_first:
                rows = log_rows - torch.logsumexp(couplings + columns.unsqueeze(-2), -1)
        return couplings + rows.unsqueeze(-1) + columns.unsqueeze(-2) + total
