from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Per-sample stochastic depth of a residual branch (Huang et al., ECCV 2016).

    Args:
        drop_prob (float): Probability in [0, 1) of zeroing a sample's branch in training; kept
            branches are scaled by ``1 / (1 - drop_prob)``.

    Raises:
        ValueError: If ``drop_prob`` is outside [0, 1).
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f'drop_prob={drop_prob} must be in [0, 1).')
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of ``x`` of shape ``(B, ...)``."""
        return self.drop_jointly(x)[0]

    def drop_jointly(self, *branches: Tensor) -> tuple[Tensor, ...]:
        """Drop the same samples of several branches ``(B, ...)``."""
        if not self.training or self.drop_prob == 0:
            return branches
        keep = 1 - self.drop_prob
        mask = branches[0].new_empty(len(branches[0])).bernoulli_(keep).div_(keep)
        return tuple(branch * mask.view(-1, *(1,) * (branch.ndim - 1)) for branch in branches)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f'drop_prob={self.drop_prob}'


def drop_path_schedule(rate: float, num_blocks: int) -> list[float]:
    """Return drop rates that grow linearly from 0 in the first block to ``rate`` in the last."""
    return [rate * i / max(1, num_blocks - 1) for i in range(num_blocks)]
