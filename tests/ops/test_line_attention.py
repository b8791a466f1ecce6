from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from mmeffvit.ops.line_attention import line_logits, tree_line_attention


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(q, k, q_table, k_table, scale):
    lines, heads, W, _ = q.shape
    out = torch.empty(lines, heads, W, W, dtype=q.dtype)
    for a in range(W):
        for b in range(W):
            row = W - 1 - a + b
            score = (q[:, :, a] * k[:, :, b]).sum(-1)
            score = score + (q[:, :, a] * k_table[:, row]).sum(-1)
            out[:, :, a, b] = scale * (score + (k[:, :, b] * q_table[:, row]).sum(-1))
    return out


@pytest.mark.parametrize('W', [1, 2, 7])
def test_logits_are_those_written_out(W):
    q, k = tokens(3, 2, W, 4), tokens(3, 2, W, 4, seed=1)
    tables = tokens(2, 2 * W - 1, 4, seed=2), tokens(2, 2 * W - 1, 4, seed=3)
    torch.testing.assert_close(line_logits(q, k, *tables, 0.3), written_out(q, k, *tables, 0.3))
    zero = torch.zeros_like(tables[0])
    torch.testing.assert_close(line_logits(q, k), line_logits(q, k, zero, zero))


def pyramids(W: int, levels: int, seed: int = 0) -> list[list[torch.Tensor]]:
    """Queries, keys, values and both tables per level, coarsest first."""
    widths = [W // 2 ** (levels - 1 - level) for level in range(levels)]
    found = [
        [tokens(2, 2, w, 3, seed=seed + 10 * i + level) for level, w in enumerate(widths)]
        for i in range(3)
    ]
    tables = [
        [tokens(2, 2 * w - 1, 3, seed=seed + 50 + 10 * i + level) for level, w in enumerate(widths)]
        for i in range(2)
    ]
    return [*found, *tables]


def brute_force(queries, keys, values, tables, topks, kind, mix):
    """Dense attention on every level, restricted to the children of the kept keys."""
    scale = queries[0].shape[-1] ** -0.5
    allowed = parent = out = None
    for level, (q, k, v) in enumerate(zip(queries, keys, values)):
        logits = written_out(q, k, tables[0][level], tables[1][level], scale)
        W = logits.shape[-1]
        if allowed is not None:
            allowed = allowed.repeat_interleave(2, 2).repeat_interleave(2, 3)
        else:
            allowed = torch.ones_like(logits, dtype=torch.bool)
        if kind == 'A' and parent is not None:
            siblings = logits.unflatten(-1, (W // 2, 2)).softmax(-1).flatten(-2)
            weights = siblings * parent.repeat_interleave(2, 2).repeat_interleave(2, 3)
            weights = weights * allowed
        else:
            weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
        used = weights
        if level < len(queries) - 1:
            score, place = weights.topk(min(topks[level], allowed.sum(-1).min().item()), -1)
            kept = torch.zeros_like(allowed).scatter(-1, place, True)
            parent = torch.zeros_like(weights).scatter(-1, place, score)
            used = weights.masked_fill(kept, 0) if kind == 'A' else weights
            allowed = kept
        message = used @ v
        message = message if kind == 'A' else message * mix[level]
        out = message if out is None else out.repeat_interleave(2, 2) + message
    return out


@pytest.mark.parametrize('kind', ['A', 'B'])
@pytest.mark.parametrize('levels, topks', [(1, (1,)), (2, (2, 2)), (3, (2, 3, 9)), (3, (99,) * 3)])
def test_the_tree_equals_dense_attention_to_the_same_keys(kind, levels, topks):
    *parts, q_tables, k_tables = pyramids(16, levels)
    mix = torch.linspace(0.2, 0.8, levels, dtype=torch.float64)
    found = tree_line_attention(
        *parts, topks, kind, q_tables=q_tables, k_tables=k_tables, level_weights=mix
    )
    expected = brute_force(*parts, (q_tables, k_tables), topks, kind, mix)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('kind', ['A', 'B'])
def test_the_tree_has_its_gradient(kind):
    parts = pyramids(8, 2)
    flat = [x.requires_grad_() for part in parts for x in part]
    mix = torch.tensor([0.4, 0.6], dtype=torch.float64, requires_grad=True)

    def run(mix, *flat):
        q, k, v, qt, kt = (flat[2 * i : 2 * i + 2] for i in range(5))
        return tree_line_attention(
            q, k, v, (2, 2), kind, q_tables=qt, k_tables=kt, level_weights=mix
        )

    assert gradcheck(run, (mix, *flat))


@pytest.mark.parametrize('kind', ['A', 'B'])
def test_hidden_keys_do_not_matter(kind):
    queries, keys, values, *_ = pyramids(8, 3)
    mask = torch.arange(8) < 6
    masks = [mask.unflatten(0, (-1, 4)).any(1), mask.unflatten(0, (-1, 2)).any(1), mask]
    mix = torch.full((3,), 1 / 3)
    other = [torch.where(m[:, None], x, 100 * torch.randn_like(x)) for m, x in zip(masks, keys)]
    first, second = (
        tree_line_attention(queries, k, values, (2, 2, 2), kind, level_weights=mix, key_masks=masks)
        for k in (keys, other)
    )
    torch.testing.assert_close(first, second)


def test_lines_are_independent():
    queries, keys, values, *tables = pyramids(16, 3)
    mix = torch.full((3,), 1 / 3)
    swap = [[x.flip(0) for x in part] for part in (queries, keys, values)]
    options = dict(q_tables=tables[0], k_tables=tables[1], level_weights=mix)
    first = tree_line_attention(queries, keys, values, (2, 2, 2), **options)
    second = tree_line_attention(*swap, (2, 2, 2), **options)
    torch.testing.assert_close(first, second.flip(0))
