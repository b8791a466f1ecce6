"""Matchers as ONNX files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...ops import best_of_matrix
from ...utils.atomic import atomic
from ...utils.requirements import require
from ..networks.coarse import CellMatches
from .model import FeatureMatcher


class MatcherGraph(nn.Module):
    """A matcher as a function with results of fixed size: one match per cell of image 0.

    Args:
        model (FeatureMatcher): The model.
    """

    def __init__(self, model: FeatureMatcher) -> None:
        super().__init__()
        self.model = model

    def forward(self, image0: Tensor, image1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Match two grey images ``(1, 1, H, W)`` in [0, 1].

        Returns:
            tuple: Points ``(N, 2)`` in image 0, all its cells; points ``(N, 2)`` in image 1; and
            confidence ``(N,)``, 0 where there is no match.
        """
        model = self.model
        features = model.extract(image0, image1)
        best = best_of_matrix(model.confidence(features))
        kept = model.coarse.keeps(best, features.grid0, features.grid1)
        column = best.column[0]
        cells = torch.arange(column.shape[0], device=column.device)
        confidence = torch.where(kept, best.confidence, 0)[0]
        matches = CellMatches(torch.zeros_like(cells), cells, column, confidence)
        found = model.refine(features, matches)
        return found.points0, found.points1, confidence


def export_matcher(
    model: FeatureMatcher, out: str | Path, size0: tuple[int, int], size1: tuple[int, int]
) -> None:
    """Write a matcher for images of two given sizes as an ONNX file.

    Inputs are ``image0`` and ``image1``, outputs ``points0``, ``points1`` and ``confidence`` of
    :class:`MatcherGraph`.

    Args:
        model (FeatureMatcher): The model; it is put into eval mode.
        out (str | Path): The file.
        size0 (tuple[int, int]): ``(height, width)`` of image 0.
        size1 (tuple[int, int]): That of image 1.

    Raises:
        MissingLibraryError: If the libraries of ``mmeffvit[deploy]`` are absent.
    """
    require('onnx', 'onnxscript')
    example = tuple(torch.rand(1, 1, *size) for size in (size0, size1))
    with torch.no_grad():
        program = torch.onnx.export(
            MatcherGraph(model.eval()).eval(),
            example,
            dynamo=True,
            input_names=['image0', 'image1'],
            output_names=['points0', 'points1', 'confidence'],
            verbose=False,
        )
    assert program is not None  # it always is with dynamo=True
    with atomic(out) as partial:
        program.save(str(partial))
