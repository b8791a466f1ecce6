"""Similarity between layers: centred kernel alignment of features, cosine of attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: The unbiased estimator divides by ``m - 3``.
MIN_BATCH = 4


def gram(features: Tensor) -> Tensor:
    """Gram matrix ``(m, m)`` of features ``(m, ...)``, in float64."""
    flat = features.flatten(1).double()
    return flat @ flat.T


def hsic(K: Tensor, L: Tensor) -> Tensor:
    """Hilbert-Schmidt independence criterion of two Gram matrices, biased, unscaled."""
    centred = K - K.mean(0, keepdim=True) - K.mean(1, keepdim=True) + K.mean()
    return (centred * L).sum()


def unbiased_hsic(K: Tensor, L: Tensor) -> Tensor:
    """Unbiased estimator of HSIC (Song et al., JMLR 2012, equation 5).

    Raises:
        ValueError: If there are fewer than 4 samples.
    """
    m = len(K)
    if m < MIN_BATCH:
        raise ValueError(f'The unbiased estimator needs {MIN_BATCH} samples or more, not {m}.')
    K, L = (matrix - matrix.diagonal().diag() for matrix in (K, L))
    sums_k, sums_l = K.sum(0), L.sum(0)
    total = (K * L).sum() + sums_k.sum() * sums_l.sum() / ((m - 1) * (m - 2))
    return (total - 2 / (m - 2) * (sums_k @ sums_l)) / (m * (m - 3))


def linear_cka(features: Sequence[Tensor]) -> Tensor:
    """Linear CKA between all pairs of layers, over all samples at once.

    Args:
        features (Sequence[Tensor]): Per layer ``(m, ...)``, the same samples in the same order.

    Returns:
        Tensor: ``(layers, layers)``, float64.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited" (ICML 2019).
    """
    return _normalise(_pairwise([gram(layer) for layer in features], hsic))


class MinibatchCKA:
    """Linear CKA from minibatches: unbiased HSIC is averaged, then divided.

    The expectation does not depend on the size of the batches, and memory is that of one.

    Source: Nguyen et al., "Do Wide and Deep Networks Learn the Same Things?" (ICLR 2021).
    """

    def __init__(self) -> None:
        self._total: Tensor | float = 0.0  # a float until the first batch
        self._batches = 0

    def update(self, features: Sequence[Tensor]) -> None:
        """Add a batch: per layer ``(m, ...)`` with at least 4 samples."""
        grams = [gram(layer) for layer in features]
        self._total = self._total + _pairwise(grams, unbiased_hsic)
        self._batches += 1

    def result(self) -> Tensor:
        """CKA ``(layers, layers)`` of what was added, float64.

        Raises:
            ValueError: If nothing was added.
        """
        if not isinstance(self._total, Tensor):
            raise ValueError('No batch was added.')
        return _normalise(self._total / self._batches)


def cosine_similarity(maps: Sequence[Tensor]) -> Tensor:
    """Cosine between layers' attention maps, summed over samples.

    Args:
        maps (Sequence[Tensor]): Per layer ``(m, ...)``.

    Returns:
        Tensor: ``(layers, layers)``, float64; divide by the number of samples for the mean.
    """
    flat = F.normalize(torch.stack([layer.flatten(1).double() for layer in maps]), dim=-1)
    return torch.einsum('imp,jmp->ij', flat, flat)


def suggest_range(similarity: Tensor, threshold: float = 0.8) -> tuple[int, int] | None:
    """Longest run of layers that are all like the layer before them.

    Args:
        similarity (Tensor): ``(layers, layers)``.
        threshold (float): What counts as alike (our choice).

    Returns:
        tuple | None: First and last layer to skip; the layer before the first is the source. None
        if no two neighbours are alike.
    """
    best, first = None, 1
    for layer in range(1, len(similarity) + 1):
        if layer < len(similarity) and similarity[layer - 1, layer] > threshold:
            continue
        if layer > first and (best is None or layer - first > best[1] - best[0] + 1):
            best = (first, layer - 1)
        first = layer + 1
    return best


def _pairwise(grams: Sequence[Tensor], measure) -> Tensor:
    out = torch.zeros(len(grams), len(grams), dtype=torch.float64)
    for i, K in enumerate(grams):
        for j, L in enumerate(grams[: i + 1]):
            out[i, j] = out[j, i] = measure(K, L)
    return out


def _normalise(values: Tensor) -> Tensor:
    scale = values.diagonal().clamp(min=torch.finfo(values.dtype).tiny).sqrt()
    return values / (scale[:, None] * scale)
