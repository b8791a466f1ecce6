from __future__ import annotations

import pytest
import torch

from mmeffvit.layers import (
    ConvMlp,
    DropPath,
    Mlp,
    ReusesAttention,
    SoftmaxAttention,
    TransformerBlock,
    run_blocks,
)


class _Reuse(ReusesAttention, torch.nn.Module):
    """Stands for a layer that takes its input from the block before."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, grid, previous_attention=None):
        return self.scale * previous_attention


@pytest.mark.parametrize('with_cp', [False, True, 'all', 'mlp'])
def test_recomputing_changes_nothing(with_cp):
    """A chain of reused attention gives the same gradients, whatever is recomputed."""
    gradients = []
    for mode in (False, with_cp):
        torch.manual_seed(0)
        blocks = [
            TransformerBlock(8, SoftmaxAttention(8, 2), ConvMlp(8, 16), with_cp=mode),
            TransformerBlock(8, _Reuse(), ConvMlp(8, 16, checkpoint_tail=bool(mode)), with_cp=mode),
            TransformerBlock(8, _Reuse(), Mlp(8, 16), with_cp=mode),
        ]
        x = torch.randn(2, 12, 8, requires_grad=True)
        (y,) = run_blocks(blocks, x, (3, 4))
        y.square().sum().backward()
        parameters = [p for block in blocks for p in block.parameters()]
        gradients.append([x.grad, *(p.grad for p in parameters)])
    for plain, recomputed in zip(*gradients):
        torch.testing.assert_close(plain, recomputed)


def test_a_layer_that_ignores_the_stream_gets_no_norm():
    block = TransformerBlock(8, _Reuse(), Mlp(8, 16))
    assert not list(block.norm1.parameters())
    source = torch.randn(1, 4, 8)
    _, attention = block(torch.randn(1, 4, 8), (2, 2), source, return_attention=True)
    torch.testing.assert_close(attention, 0.5 * source)


def test_attention_outputs_go_to_the_next_block_only_where_it_reuses_them():
    blocks = [TransformerBlock(8, SoftmaxAttention(8, 2), Mlp(8, 16)) for _ in range(2)]
    blocks += [TransformerBlock(8, _Reuse(), Mlp(8, 16)), torch.nn.Module()]
    blocks[3].forward = lambda x, grid: x + 1  # a block of another scheme
    asked = []
    for block in blocks[:3]:
        block.register_forward_pre_hook(
            lambda _, args, kwargs: asked.append((len(args), bool(kwargs))), with_kwargs=True
        )
    outs = run_blocks(blocks, torch.randn(1, 4, 8), (2, 2), (0, 2, 3))
    assert asked == [(2, False), (2, True), (3, False)]
    assert len(outs) == 3
    torch.testing.assert_close(outs[2], outs[1] + 1)


def test_mlp_tail_needs_an_mlp_with_a_tail():
    block = TransformerBlock(8, SoftmaxAttention(8, 2), ConvMlp(8, 16), with_cp='mlp_tail')
    assert block.mlp.checkpoint_tail
    with pytest.raises(ValueError, match=r"'mlp_tail' needs .* ConvMlp, instead of Mlp"):
        TransformerBlock(8, SoftmaxAttention(8, 2), Mlp(8, 16), with_cp='mlp_tail')


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
