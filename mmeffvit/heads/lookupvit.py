from __future__ import annotations

from collections.abc import Sequence

import torch
from mmpretrain.evaluation import Accuracy
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..registry import MODELS

INFER_FROM = ('both', 'compressed', 'lookup')


@MODELS.register_module()
class LookupViTClsHead(ClsHead):
    """Classification head of LookupViT: one linear classifier per token set, on its mean token.

    Both classifiers have the same loss, weighted equally as in the paper; the weights of one half,
    and averaging logits rather than probabilities, are our choice.

    Args:
        num_classes (int): Number of categories.
        in_channels (int): Width D of the tokens.
        infer_from (str): ``'both'`` averages the logits, ``'compressed'`` and ``'lookup'`` use one
            classifier.
        loss_weights (Sequence[float]): Weights of the compressed and the lookup loss.
        init_cfg (dict, optional): mmengine initialisation.
        **kwargs: ``loss``, ``topk`` and ``cal_acc`` of mmpretrain's ``ClsHead``.

    Raises:
        ValueError: If ``infer_from`` is not one of the allowed values.

    Source: LookupViT, section 3 ("training").
    """

    loss_module: nn.Module
    topk: Sequence[int]

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        infer_from: str = 'both',
        loss_weights: Sequence[float] = (0.5, 0.5),
        init_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        init_cfg = init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02)
        super().__init__(init_cfg=init_cfg, **kwargs)
        if infer_from not in INFER_FROM:
            raise ValueError(f'infer_from={infer_from!r} must be one of {INFER_FROM}.')
        self.infer_from = infer_from
        self.loss_weights = tuple(loss_weights)
        self.fc_compressed = nn.Linear(in_channels, num_classes)
        self.fc_lookup = nn.Linear(in_channels, num_classes)

    def logits(self, feats: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Compute the logits of both classifiers.

        Args:
            feats (Sequence[tuple[Tensor, Tensor]]): Output of a :class:`LookupViT` with
                ``out_type='pooled'``: mean compressed and mean lookup tokens ``(B, D)`` per output,
                of which the last is used.

        Returns:
            tuple[Tensor, Tensor]: Logits ``(B, num_classes)`` of each.
        """
        compressed, lookup = feats[-1]
        return self.fc_compressed(compressed), self.fc_lookup(lookup)

    def forward(self, feats: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Compute the logits ``(B, num_classes)`` for inference, as set by ``infer_from``."""
        compressed, lookup = feats[-1]
        if self.infer_from == 'compressed':
            return self.fc_compressed(compressed)
        if self.infer_from == 'lookup':
            return self.fc_lookup(lookup)
        return (self.fc_compressed(compressed) + self.fc_lookup(lookup)) / 2

    def loss(
        self, feats: Sequence[tuple[Tensor, Tensor]], data_samples: list[DataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute ``loss_compressed`` and ``loss_lookup``, and accuracies with ``cal_acc``.

        Args:
            feats (Sequence[tuple[Tensor, Tensor]]): See :meth:`logits`.
            data_samples (list[DataSample]): Labels or, after mixing augmentations, scores.
            **kwargs: Passed to the loss.
        """
        logits = self.logits(feats)
        if 'gt_score' in data_samples[0]:  # labels mixed by augmentation
            target = torch.stack([sample.get('gt_score') for sample in data_samples])
        else:
            target = torch.cat([sample.get('gt_label') for sample in data_samples])
        losses = {
            f'loss_{name}': weight
            * self.loss_module(scores, target, avg_factor=len(scores), **kwargs)
            for name, weight, scores in zip(INFER_FROM[1:], self.loss_weights, logits)
        }
        if self.cal_acc and target.ndim == 1:
            accuracy = Accuracy.calculate((logits[0] + logits[1]) / 2, target, topk=self.topk)
            losses.update(zip((f'accuracy_top-{k}' for k in self.topk), accuracy))
        return losses
