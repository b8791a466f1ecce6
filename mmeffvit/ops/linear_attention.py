from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .numerics import accurate, without_autocast


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """Attention by the kernel ``elu(x) + 1`` instead of the softmax, linear in the tokens.

    Runs in float32 (float64 for float64 inputs), also under autocast.

    Args:
        q (Tensor): Queries ``(B, heads, N, D)``.
        k (Tensor): Keys ``(B, heads, M, D)``.
        v (Tensor): Values ``(B, heads, M, D)``.
        key_mask (Tensor, optional): Boolean ``(B, M)``, False where a key must not be attended to.
        eps (float): Added to the normaliser.

    Returns:
        Tensor: ``(B, heads, N, D)``, of the type of ``v``.

    Source: Katharopoulos et al., "Transformers are RNNs" (ICML 2020), equation 7.
    """
    with without_autocast(q):
        queries, keys = (F.elu(accurate(x)) + 1 for x in (q, k))
        values = accurate(v)
        if key_mask is not None:
            visible = key_mask[:, None, :, None].to(keys.dtype)
            keys, values = keys * visible, values * visible
        count = k.shape[2]  # divided by first, so that sums over many keys keep their precision
        context = keys.transpose(2, 3) @ (values / count)
        normaliser = queries @ keys.sum(2).unsqueeze(-1) + eps
        return (queries @ context / normaliser * count).to(v.dtype)
