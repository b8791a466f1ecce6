import itertools

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.layers import LookupBlock, LookupGather, LookupInfuse

D, HEADS = 16, 4
OPTIONS = dict(
    norm_position=('post_proj', 'pre'),
    l2p_out_proj=(True, False),
    p2l_out_proj=(False, True),
    reuse_norm=('none', 'row'),
    qkv_bias=(True, False),
    layer_scale=(None, 0.5),
)


def _perturbed(block):
    """Norms and biases away from ones and zeros."""
    for name, parameter in block.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, float('norm' in name and 'weight' in name), 0.2)
        else:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return block.eval()


def _heads(x):
    return x.unflatten(-1, (HEADS, -1)).unbind(-2)


def _naive_block(block, few, many, pre, normalise):
    """The block as the paper's algorithms, head by head, plain projections."""
    gather, refine, infuse = block.gather, block.refine, block.infuse
    if pre:
        source = gather.norm_k(many)
        q, k = gather.q(gather.norm_q(few)), gather.k(source)
    else:
        source = many
        q, k = gather.norm_q(gather.q(few)), gather.norm_k(gather.k(many))
    v = gather.v(source)
    attention = [(a @ b.mT / (D // HEADS) ** 0.5).softmax(-1) for a, b in zip(_heads(q), _heads(k))]
    message = torch.cat([a @ b for a, b in zip(attention, _heads(v))], -1)
    few = few + block.scale_gather(gather.proj(message))

    qkv = refine.attn.qkv(refine.norm1(few)).chunk(3, -1)
    mixed = [
        (a @ b.mT / (D // HEADS) ** 0.5).softmax(-1) @ c
        for a, b, c in zip(*(_heads(x) for x in qkv))
    ]
    few = few + refine.scale1(refine.attn.proj(torch.cat(mixed, -1)))
    hidden = F.gelu(refine.mlp.fc1(refine.norm2(few)))
    few = few + refine.scale2(refine.mlp.fc2(hidden))

    v = infuse.v(infuse.norm_v(few)) if pre else infuse.norm_v(infuse.v(few))
    if normalise:
        attention = [a / (a.sum(-2, keepdim=True) + 1e-6) for a in attention]
    message = torch.cat([a.mT @ b for a, b in zip(attention, _heads(v))], -1)
    message = message if infuse.proj is None else infuse.proj(message)
    many = many + block.scale_infuse(message)
    return few, many + block.scale_mlp(block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm(many)))))


@pytest.mark.parametrize('values', list(itertools.product(*OPTIONS.values())), ids=str)
def test_block_equals_the_algorithms(values):
    options = dict(zip(OPTIONS, values))
    torch.manual_seed(0)
    block = _perturbed(LookupBlock(D, HEADS, **options).double())
    for M in (2, 9):  # absorbed and not
        few, many = (torch.randn(2, n, D, dtype=torch.float64) for n in (M, 20))
        expected = _naive_block(
            block, few, many, options['norm_position'] == 'pre', options['reuse_norm'] == 'row'
        )
        for actual, wanted in zip(block(few, many), expected):
            assert (actual - wanted).abs().max() < 1e-10


@pytest.mark.parametrize('norm_position', ['post_proj', 'pre'])
def test_one_attention_both_ways(monkeypatch, norm_position):
    block = _perturbed(LookupBlock(D, HEADS, norm_position=norm_position))
    used = []
    monkeypatch.setattr(
        block.infuse, 'forward', lambda few, weights: used.append(weights) or torch.zeros(2, 20, D)
    )
    made = []
    gather = block.gather.forward
    monkeypatch.setattr(
        block.gather, 'forward', lambda *sets: made.append(gather(*sets)) or made[-1]
    )
    M, N = 5, 20
    block(torch.randn(2, M, D), torch.randn(2, N, D))
    weights = made[0][1]
    assert used[0] is weights
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, M))
    # What a lookup token receives has weights that add up to M / N on average.
    torch.testing.assert_close(weights.sum(2).mean(-1), torch.full((2, HEADS), M / N))


def test_row_normalised_weights_average():
    block = _perturbed(LookupBlock(D, HEADS, reuse_norm='row'))
    _, weights = block.gather(torch.randn(1, 5, D), torch.randn(1, 20, D))
    constant = torch.ones(1, 5, D)
    block.infuse.norm_v = torch.nn.Identity()
    block.infuse.v = torch.nn.Identity()
    torch.testing.assert_close(
        block.infuse(constant, weights), torch.ones(1, 20, D), rtol=0, atol=1e-4
    )


def test_lookup_tokens_meet_only_through_compressed_tokens():
    torch.manual_seed(0)
    block = LookupBlock(D, HEADS).double().eval()
    few, many = torch.randn(1, 3, D, dtype=torch.float64), torch.randn(1, 6, D, dtype=torch.float64)

    def jacobian():
        out = torch.autograd.functional.jacobian(lambda x: block(few, x)[1][0], many)
        return out[:, :, 0]  # (N out, D, N in, D)

    others = ~torch.eye(6, dtype=torch.bool)
    assert jacobian().permute(0, 2, 1, 3)[others].abs().max() > 1e-6
    torch.nn.init.zeros_(block.infuse.norm_v.weight)
    assert (jacobian().permute(0, 2, 1, 3)[others] == 0).all()


@pytest.mark.parametrize('with_cp', ['mlp', 'all'])
def test_checkpointing_changes_nothing(with_cp):
    torch.manual_seed(0)
    block = LookupBlock(D, HEADS).train()
    recomputed = LookupBlock(D, HEADS, with_cp=with_cp).train()
    recomputed.load_state_dict(block.state_dict())
    few, many = torch.randn(2, 3, D), torch.randn(2, 20, D)
    grads = []
    for candidate in (block, recomputed):
        inputs = few.clone().requires_grad_(), many.clone().requires_grad_()
        outs = candidate(*inputs)
        sum(out.square().sum() for out in outs).backward()
        grads.append([x.grad for x in (*inputs, *candidate.parameters())])
    for plain, again in zip(*grads):
        torch.testing.assert_close(plain, again)


def test_checkpointing_keeps_no_attention():
    few, many = torch.randn(1, 3, D), torch.randn(1, 50, D, requires_grad=True)
    for with_cp, found in ((False, True), ('mlp', True), (True, False)):
        block = LookupBlock(D, HEADS, with_cp=with_cp).train()
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, shapes=shapes: shapes.append(x.shape) or x, lambda x: x
        ):
            block(few, many)
        assert any(s[-2:] == (3, 50) for s in shapes) == found


@pytest.mark.parametrize(
    ('layer', 'options'),
    [
        (LookupBlock, dict(num_heads=HEADS, norm_position='post')),
        (LookupBlock, dict(num_heads=HEADS, reuse_norm='column')),
        (LookupGather, dict(num_heads=HEADS, norm_position='post')),
        (LookupInfuse, dict(norm_position='post')),
        (LookupInfuse, dict(reuse_norm='column')),
    ],
)
def test_bad_options(layer, options):
    name, value = list(options.items())[-1]
    with pytest.raises(ValueError, match=f"{name}='{value}' must be one of"):
        layer(D, **options)
