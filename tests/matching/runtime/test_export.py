"""The ONNX file of a matcher gives its matches."""

from __future__ import annotations

import pytest
import torch

from helpers.pairs import tiny_matcher
from mmeffvit.matching import MatcherGraph, export_matcher

SIZES = (64, 88), (56, 72)


def test_the_graph_has_the_matches_of_the_model():
    model = tiny_matcher(threshold=0.0, border=1).eval()
    images = [torch.rand(1, 1, *size) for size in SIZES]
    with torch.no_grad():
        expected = model.match(*images)
        points0, points1, confidence = MatcherGraph(model)(*images)
    kept = confidence > 0
    assert kept.sum() == len(expected.points0)
    torch.testing.assert_close(points0[kept], expected.points0)
    torch.testing.assert_close(points1[kept], expected.points1, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    model = tiny_matcher(threshold=0.0, border=1).eval()
    export_matcher(model, tmp_path / 'm.onnx', *SIZES)
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx', providers=['CPUExecutionProvider'])
    torch.manual_seed(5)
    images = [torch.rand(1, 1, *size) for size in SIZES]
    found = session.run(None, {f'image{i}': x.numpy() for i, x in enumerate(images)})
    with torch.no_grad():
        expected = MatcherGraph(model)(*images)
    for array, tensor in zip(found, expected):
        torch.testing.assert_close(torch.from_numpy(array), tensor, atol=1e-3, rtol=1e-3)
