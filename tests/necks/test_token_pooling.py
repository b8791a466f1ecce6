from __future__ import annotations

import torch

from mmeffvit.necks import TokenPooling


def test_mean_over_all_tokens():
    neck = TokenPooling(6, 10)
    tokens = torch.randn(2, 7, 6)
    (pooled,) = neck((tokens,))
    one_by_one = torch.stack([neck((tokens[:, i : i + 1],))[0] for i in range(7)], dim=1)
    torch.testing.assert_close(pooled, one_by_one.mean(1))
    assert pooled.shape == (2, 10)
