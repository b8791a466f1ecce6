"""What holds for every family: compilation, half precision, layouts, depths of parameters."""

from __future__ import annotations

import re
import signal
from itertools import combinations

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from helpers.models import (
    BACKBONES,
    CLASSES,
    DENOISERS,
    MODELS,
    VARIANTS,
    outputs,
    tiny_input,
    tiny_model,
)
from mmeffvit import backbones
from mmeffvit.layers import ConvMlp
from mmeffvit.layers.block import RecomputingBlock

#: No multiples of anything, so that every padding is in the graph. The framework traces anew where
#: a crop becomes contiguous or a pooling has no remainder; these sizes are alike in that.
SIZES = ((75, 101), (79, 103))
#: Norm of the difference between bfloat16 autocast and float32 over the norm of the latter; the
#: largest that was measured over all maps is 0.009.
BFLOAT16_TOLERANCE = 0.02
#: Hosts of attentions that have no arch of their own.
HOSTS = {'HierarchicalTransformer', 'PyramidTransformer', 'TwoStreamTransformer'}
#: Seconds of processor time after which a compilation does not come back.
COMPILE_LIMIT = 120
QUICK = ('vit', 'lookupvit', 'uniformer')


@pytest.fixture
def compile_limit():
    """Interrupt a compilation that does not come back."""

    def stop(signum, frame):
        raise TimeoutError(f'still compiling after {COMPILE_LIMIT} seconds')

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, COMPILE_LIMIT)
    torch.compiler.reset()
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def test_every_family_is_here():
    found = {model.func.__name__ for model in BACKBONES.values()}
    assert found == set(backbones.__all__) - HOSTS
    assert len(MODELS) == len(CLASSES) + len(VARIANTS)


@pytest.mark.parametrize('name', MODELS)
def test_bfloat16_autocast_is_near_float32(name):
    model = tiny_model(name)
    image = tiny_input(model, SIZES[0])
    with torch.autocast('cpu', torch.bfloat16):
        halves = outputs(model, image)
    for half, full in zip(halves, outputs(model, image)):
        assert (half.float() - full).norm() < BFLOAT16_TOLERANCE * full.norm()


@pytest.mark.parametrize('name', MODELS)
def test_channels_last_input(name):
    model = tiny_model(name)
    image = tiny_input(model, SIZES[0])
    layout = torch.channels_last if image.ndim == 4 else torch.channels_last_3d
    strided = image.contiguous(memory_format=layout)
    assert strided.stride() != image.stride()
    torch.testing.assert_close(outputs(model, strided), outputs(model, image))


@pytest.mark.parametrize('name', BACKBONES)
def test_maps_do_not_depend_on_which_others_are_asked_for(name):
    whole = tiny_model(name)
    levels = range(len(whole.stage_modules()))
    whole = tiny_model(name, out_indices=levels)
    image = tiny_input(whole, SIZES[0])
    maps = outputs(whole, image)
    assert len(maps) == len(levels)
    for count in range(1, len(levels)):
        for indices in combinations(levels, count):
            model = tiny_model(name, out_indices=indices)
            keys = model.load_state_dict(whole.state_dict(), strict=False)
            assert not keys.missing_keys
            assert all(key.startswith(model.output_layers) for key in keys.unexpected_keys)
            torch.testing.assert_close(
                outputs(model, image), [maps[i] for i in indices], rtol=0, atol=0
            )


@pytest.mark.parametrize('name', BACKBONES)
def test_depths_of_all_parameters(name):
    model = tiny_model(name)
    depths = {}
    for key, _ in model.named_parameters():
        depths[key], num_depths = model.get_layer_depth(f'backbone.{key}', 'backbone.')
    assert set(depths.values()) <= set(range(num_depths))
    # Every block is one deeper than the one before, and the first follows the stem.
    blocks = [re.search(r'^(?:stages\.(\d+)\.)?blocks\.(\d+)\.', key) for key in depths]
    order = {(int(m[1] or 0), int(m[2])): depths[m.string] for m in blocks if m}
    assert [order[place] for place in sorted(order)] == list(range(1, num_depths - 1))
    assert model.get_layer_depth('neck.weight', 'backbone.') == (num_depths - 1, num_depths)
    stem = [part for part in model.stem_modules() if isinstance(part, nn.Module)]
    stem = {id(p) for part in stem for p in part.parameters()}
    assert {depths[key] for key, p in model.named_parameters() if id(p) in stem} == {0}


@pytest.mark.parametrize('name', BACKBONES)
def test_layer_decay_takes_every_trainable_parameter(name):
    model = nn.ModuleDict(dict(backbone=tiny_model(name), head=nn.Linear(2, 2)))
    model.backbone = model['backbone']
    config = dict(
        optimizer=dict(type='SGD', lr=1.0),
        constructor='mmeffvit.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(decay_rate=0.5),
    )
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    rates = {id(p): group['lr'] for group in groups for p in group['params']}
    assert set(rates) == {id(p) for p in model.parameters() if p.requires_grad}
    assert rates[id(model['head'].weight)] == max(rates.values()) == 1
    num_blocks = sum(bool(re.search(r'blocks\.\d+$', key)) for key, _ in model.named_modules())
    assert min(rates.values()) == 0.5 ** (num_blocks + 1)


@pytest.mark.parametrize('name', BACKBONES)
def test_an_early_output_leaves_no_parameter_without_a_gradient(name):
    whole, part = tiny_model(name), tiny_model(name, out_indices=0).train()
    sum(out.square().sum() for out in part(tiny_input(part, (64, 64)))).backward()
    without = [key for key, p in part.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    state = {**part.state_dict(), **whole.state_dict()}
    part.eval().load_state_dict(state)
    image = tiny_input(part, (64, 64))
    first = tiny_model(name, out_indices=(0, 1))
    first.load_state_dict({**first.state_dict(), **whole.state_dict(), **part.state_dict()})
    torch.testing.assert_close(outputs(part, image)[0], outputs(first, image)[0])


@pytest.mark.parametrize('with_cp', [True, 'all', 'mlp', 'mlp_tail'])
@pytest.mark.parametrize('name', MODELS)
def test_recomputing_changes_no_gradient(name, with_cp):
    build = MODELS[name]
    torch.manual_seed(0)
    plain = build(drop_path_rate=0.1).train()
    if with_cp == 'mlp_tail' and not any(isinstance(m, ConvMlp) for m in plain.modules()):
        with pytest.raises(ValueError, match='mlp_tail'):
            build(with_cp=with_cp)
        return
    recomputing = build(drop_path_rate=0.1, with_cp=with_cp).train()
    recomputing.load_state_dict(plain.state_dict())
    image, called = tiny_input(plain, (33, 40)), []
    for module in recomputing.modules():
        if isinstance(module, (ConvMlp, RecomputingBlock)):
            part = '_run' if with_cp in (True, 'all') else '_feed_forward'
            part = '_tail' if isinstance(module, ConvMlp) else part
            whole = getattr(module, part)
            setattr(module, part, lambda *args, f=whole: called.append(1) or f(*args))
    grads = []
    for model in (plain, recomputing):
        torch.manual_seed(1)
        out = model(image)
        in_forward = len(called)
        sum(o.square().mean() for o in ([out] if torch.is_tensor(out) else out)).backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    assert len(called) > in_forward
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-6)


#: Values of options that no backbone takes.
WRONG = dict(
    with_cp=('nonsense', '', 2, -1, 0.5, None, [], ['mlp'], {}),
    out_indices=(
        *(99, -99, 1.0, 'last', '0', '', True, {0}, {0: 1}),
        *([], [0.0], ['0'], [0, None], [[0]], [True]),
    ),
    frozen_stages=(-2, 99, 'all', 1.0, None, True, [1]),
)


@pytest.mark.parametrize('option', WRONG)
@pytest.mark.parametrize('name', MODELS)
def test_wrong_values_are_named(name, option):
    if option != 'with_cp' and name not in BACKBONES:
        pytest.skip('denoisers have no stages to choose')
    for value in WRONG[option]:
        with pytest.raises(ValueError, match=rf'^{option}={re.escape(repr(value))} '):
            MODELS[name](**{option: value})


def _check_compiled(model: nn.Module, backend: str) -> None:
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    images = [tiny_input(model, size) for size in SIZES]
    found = [outputs(compiled, images[0])]
    with torch.compiler.set_stance('fail_on_recompile'):
        found.append(outputs(compiled, images[1]))
    for maps, image in zip(found, images):
        torch.testing.assert_close(maps, outputs(model, image), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS]
)
def test_compiles_into_one_graph_of_open_size(name, compile_limit):
    """Tracing alone, which is where sizes get out of hand; of pyramids two stages will do, but for
    the one with the deepest paddings.
    """
    options = {} if name in (*DENOISERS, 'quadtree') else dict(out_indices=(0, 1))
    _check_compiled(tiny_model(name, **options), 'eager')


@pytest.mark.slow
@pytest.mark.parametrize('name, backend', [('pvtv2', 'aot_eager'), ('vit', 'inductor')])
def test_compiles_with_a_compiler_behind_the_tracer(name, backend, compile_limit):
    _check_compiled(tiny_model(name, out_indices=0), backend)
