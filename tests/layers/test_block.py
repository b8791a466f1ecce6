from __future__ import annotations

import pytest
import torch

from mmeffvit.layers import Carrier, ConvMlp, DropPath, Mlp, SoftmaxAttention, TransformerBlock


class _Reuse(torch.nn.Module):
    """Stands for a layer that takes its input from the carrier."""

    reads_stream = False

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, grid, carrier=None):
        return self.scale * carrier.mixed


@pytest.mark.parametrize('with_cp', [False, True, 'all', 'mlp'])
def test_recomputing_changes_nothing(with_cp):
    """A chain through the carrier gives the same gradients, whatever is recomputed."""
    gradients = []
    for mode in (False, with_cp):
        torch.manual_seed(0)
        blocks = [
            TransformerBlock(8, SoftmaxAttention(8, 2), ConvMlp(8, 16), with_cp=mode),
            TransformerBlock(8, _Reuse(), ConvMlp(8, 16, checkpoint_tail=bool(mode)), with_cp=mode),
            TransformerBlock(8, _Reuse(), Mlp(8, 16), with_cp=mode),
        ]
        x = torch.randn(2, 12, 8, requires_grad=True)
        y, carrier = x, None
        for block in blocks:
            y, carrier = block(y, (3, 4), carrier)
        y.square().sum().backward()
        parameters = [p for block in blocks for p in block.parameters()]
        gradients.append([x.grad, *(p.grad for p in parameters)])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(plain, recomputed)


def test_a_layer_that_ignores_the_stream_gets_no_norm():
    block = TransformerBlock(8, _Reuse(), Mlp(8, 16))
    assert not list(block.norm1.parameters())
    source = torch.randn(1, 4, 8)
    _, carrier = block(torch.randn(1, 4, 8), (2, 2), Carrier(source))
    torch.testing.assert_close(carrier.mixed, 0.5 * source)


def test_unknown_checkpoint_mode():
    with pytest.raises(ValueError, match='mlp_tail'):
        TransformerBlock(8, SoftmaxAttention(8, 2), Mlp(8, 16), with_cp='attention')


def test_drop_path_drops_whole_samples():
    torch.manual_seed(0)
    drop = DropPath(0.5)
    out = drop(torch.ones(64, 3, 2))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert (out.flatten(1).std(1) == 0).all()
    assert torch.equal(drop.eval()(out), out)
    with pytest.raises(ValueError, match=r'drop_prob=1.5'):
        DropPath(1.5)
