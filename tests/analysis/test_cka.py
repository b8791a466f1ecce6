"""CKA against direct computations, its invariances, the command."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from helpers.tool_runs import start_tool
from mmeffvit.analysis.cka import (
    MinibatchCKA,
    cosine_similarity,
    gram,
    linear_cka,
    suggest_range,
    unbiased_hsic,
)


def _features(m: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(m, 3, 5, generator=generator)
    return [base, base.flatten(1)[:, :7] + 1, torch.randn(m, 6, generator=generator)]


def test_exact_is_the_definition_in_feature_space():
    features = _features()
    found = linear_cka(features)
    for i, x in enumerate(features):
        for j, y in enumerate(features):
            X, Y = (f.flatten(1).double() for f in (x, y))
            X, Y = X - X.mean(0), Y - Y.mean(0)
            norm = torch.linalg.matrix_norm
            expected = norm(Y.T @ X) ** 2 / (norm(X.T @ X) * norm(Y.T @ Y))
            torch.testing.assert_close(found[i, j], expected)


def test_unbiased_hsic_is_its_definition():
    """The average of the kernel over distinct quadruples, written out."""
    x, y, _ = _features(6)
    K, L = gram(x), gram(y)
    total, count = 0.0, 0
    for i in range(6):
        for j in range(6):
            for q in range(6):
                for r in range(6):
                    if len({i, j, q, r}) == 4:
                        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
                        count += 1
    torch.testing.assert_close(unbiased_hsic(K, L), total / count)


def test_invariances():
    x = torch.randn(10, 6, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    estimate = MinibatchCKA()
    estimate.update([x, 3 * x @ rotation + 1])
    torch.testing.assert_close(estimate.result(), torch.ones(2, 2, dtype=torch.float64))
    torch.testing.assert_close(linear_cka([x, 3 * x @ rotation + 1])[0, 1].item(), 1.0)


def test_independent_features_have_no_similarity():
    torch.manual_seed(0)
    estimate = MinibatchCKA()
    for _ in range(300):
        estimate.update([torch.randn(16, 64), torch.randn(16, 64)])
    assert abs(estimate.result()[0, 1]) < 0.02
    assert linear_cka([torch.randn(16, 64), torch.randn(16, 64)])[0, 1] > 0.5  # the biased one


def test_too_few_samples():
    with pytest.raises(ValueError, match='4 samples'):
        MinibatchCKA().update([torch.randn(3, 2)])
    with pytest.raises(ValueError, match='No batch'):
        MinibatchCKA().result()


def test_cosine():
    a, b = torch.rand(2, 1, 4), torch.rand(2, 1, 4)
    expected = torch.cosine_similarity(a.double(), b.double(), dim=-1).sum()
    torch.testing.assert_close(cosine_similarity([a, b])[0, 1], expected)


@pytest.mark.parametrize(
    ('alike', 'expected'),
    [
        ([], None),
        ([1], (1, 1)),
        ([1, 3, 4, 5], (3, 5)),
        ([1, 2, 5], (1, 2)),
        ([1, 2, 3, 4, 5], (1, 5)),
    ],
)
def test_suggestion(alike, expected):
    similarity = torch.eye(6)
    for layer in alike:
        similarity[layer - 1, layer] = 0.9
    assert suggest_range(similarity, 0.8) == expected


@pytest.mark.slow
def test_command(tmp_path):
    import mmcv

    for i in range(9):
        image = np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        mmcv.imwrite(image, str(tmp_path / f'images/{i}.png'))
    config = tmp_path / 'config.py'
    config.write_text(
        "default_scope = 'mmseg'\n"
        'model = dict(data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3), backbone=dict('
        "type='mmeffvit.SkipAtViT', arch=dict(embed_dims=16, depth=4, num_heads=2), "
        'skip_layers=(2,), img_size=64))\n'
    )
    command = ['analysis_tools/layer_similarity.py', config, tmp_path / 'images']
    command += ['--out', tmp_path / 'out']
    options = ['--size', '64', '48', '--batch-size', '4', '--device', 'cpu']
    for extra in ([], ['--exact']):
        done = start_tool(*command, *options, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert 'layer 3: mean CKA' in done.stdout
        with (tmp_path / 'out/features.csv').open() as file:
            rows = list(csv.reader(file))
        assert [row[0] for row in rows[1:]] == [f'blocks.{i}.attn' for i in range(4)]
        assert float(rows[1][1]) == 1
        assert (tmp_path / 'out/similarity.png').stat().st_size > 1000
    bad = start_tool(*command, '--batch-size', '3', cwd=tmp_path)
    assert bad.returncode == 2 and 'Traceback' not in bad.stderr
    bad = start_tool(*command[:2], tmp_path / 'no', cwd=tmp_path)
    assert bad.returncode == 2 and 'no holds 0 images' in bad.stderr
