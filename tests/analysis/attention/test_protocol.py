from __future__ import annotations

import pytest
import torch
from torch import nn

from mmeffvit.analysis.attention import AttentionMap, AttentionQuery, explain, has_explanation
from mmeffvit.analysis.attention.protocol import cell_size
from mmeffvit.layers import EncoderReuse, ModulatedWindowAttention, SoftmaxAttention
from mmeffvit.registry import MODELS

QUERY = AttentionQuery((8, 12), (1, 1))


@pytest.mark.parametrize(
    ('size', 'grid', 'expected'),
    [
        ((75, 110), (19, 28), (4, 4)),
        ((75, 110), (3, 4), (32, 32)),
        ((20, 30), (1, 1), (32, 32)),
        ((224, 224), (5, 5), (44.8, 44.8)),
    ],
)
def test_cells_are_strides_or_stretched(size, grid, expected):
    assert cell_size(size, grid) == expected


def test_points_and_tokens():
    query = AttentionQuery((75, 110), (109, 74))
    assert query.cell((19, 28)) == (18, 27)
    assert query.cell((3, 4)) == (2, 3)
    assert query.index((3, 4)) == 11
    assert query.chosen_tokens((7, 7)) == [(3, 3), (0, 3), (3, 0), (3, 6), (6, 3)]
    assert query._replace(tokens=[(1, 2)]).chosen_tokens((2, 3)) == [(1, 2)]
    with pytest.raises(ValueError, match='Token 2,0 is outside the grid of 2x3 tokens'):
        query._replace(tokens=[(2, 0)]).chosen_tokens((2, 3))


def test_every_attention_layer_of_backbones_has_an_explanation():
    MODELS.import_from_location()
    # Those of a task (stereo) relate two images; other tests register layers of their own.
    ours = [x for x in MODELS.module_dict.values() if x.__module__.startswith('mmeffvit.layers.')]
    layers = [layer for layer in ours if layer.__name__.endswith('Attention')]
    assert {SoftmaxAttention, ModulatedWindowAttention} < set(layers)
    fallback = explain.dispatch(object)
    assert all(explain.dispatch(layer) is not fallback for layer in (*layers, EncoderReuse))
    assert not any(hasattr(layer, 'explain') for layer in (*layers, EncoderReuse))


class Plain(nn.Module):
    def forward(self, x, grid):
        return x


def test_a_layer_needs_no_explanation():
    assert not has_explanation(Plain())
    with pytest.raises(TypeError, match='Plain has no explanation; register a function with'):
        explain(Plain(), torch.zeros(1, 6, 8), (2, 3), query=QUERY)


def test_a_method_is_the_fallback():
    class WithMethod(Plain):
        def explain(self, x, grid, *, query):
            return [query.map_at_point('own', torch.ones(grid), grid)]

    assert has_explanation(WithMethod())
    (attention,) = explain(WithMethod(), torch.zeros(1, 6, 8), (2, 3), query=QUERY)
    assert attention.title == 'own'
    assert attention.query == (0, 0, 1 / 2, 1 / 3)


def test_a_function_is_registered_for_a_type_and_its_subclasses():
    class Registered(Plain):
        pass

    class Subclass(Registered):
        pass

    @explain.register(Registered)
    def explain_registered(layer, x, grid, *, query):
        return [AttentionMap(type(layer).__name__, torch.ones(grid), None)]

    assert has_explanation(Subclass()) and not has_explanation(Plain())
    (attention,) = explain(Subclass(), torch.zeros(1, 6, 8), (2, 3), query=QUERY)
    assert attention.title == 'Subclass'
