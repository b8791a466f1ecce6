"""Fast paths as operators of torch: the checks of torch, compilation, export, counts, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmeffvit import ops
from mmeffvit.ops.lookup import Projection

OPERATORS = torch.ops.mmeffvit


def _random(*shape: int, dtype: torch.dtype = torch.float32, grad: bool = True) -> Tensor:
    return torch.randn(shape, dtype=dtype).requires_grad_(grad)


@dataclass
class Case:
    """A call of a public function whose fast path is the operator of the name."""

    operator: str
    function: Callable[..., Any]
    tensors: list[Tensor]
    options: dict = field(default_factory=dict)
    trains: bool = True

    def run(self, function: Callable | None = None, **options) -> list[Tensor]:
        """Results and, of what trains, gradients."""
        outputs = (function or self.function)(*self.tensors, **self.options, **options)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        floats = [x for x in outputs if x is not None and x.is_floating_point()]
        if not self.trains:
            return floats
        leaves = [x for x in self.tensors if x.requires_grad]
        loss = sum((x * x.detach().cos()).sum() for x in floats if x.requires_grad)
        return [*floats, *torch.autograd.grad(loss, leaves, materialize_grads=True)]


def _quadtree(kind: str, topk: int, trains: bool = True) -> Case:
    parents, key_parents, K = 6, 7, 3
    q, k, v = (_random(2, 4 * n, 8, grad=trains) for n in (parents, key_parents, key_parents))
    index = torch.rand(2, parents, key_parents).topk(K).indices
    score = torch.rand(2, parents, K).requires_grad_(trains) if kind == 'A' else None
    mask = torch.rand(2, 4 * key_parents) > 0.2
    tensors = [q, k, v, index, score, mask] if score is not None else [q, k, v, index, mask]

    def attend(*args, **options):
        if len(args) == 5:
            args = (*args[:4], None, args[4])
        return ops.quadtree_fine(*args, scale=0.4, topk=topk, **options)

    return Case('quadtree_fine', attend, tensors, trains=trains)


def _slide(trains: bool = True, **options) -> Case:
    qkv = [_random(2, 5, 6, 2, 8, grad=trains) for _ in range(3)]
    tables = [_random(*shape, grad=trains) for shape in ((8, 9, 9), (8, 9), (2, 9))]
    for table in tables:  # as parameters are
        torch._dynamo.mark_static(table)
    return Case('slide_attention', ops.slide_attention, qkv + tables, options, trains)


def _window(rolled: bool, trains: bool = True) -> Case:
    N = 4
    tensors = [_random(2 * 2 * 3, 2, N, 8, grad=trains) for _ in range(3)]
    tensors.append(_random(2, N, N, grad=trains))
    options = dict(windows=(2, 3))
    if rolled:
        options['visible'] = ops.shifted_window_mask((4, 4), 2, (1, 1)).unflatten(0, (2, 2))
    return Case('window_attention', ops.window_attention, tensors, options, trains)


def _neighborhood(trains: bool = True, **options) -> Case:
    tensors = [_random(2, 7, 6, 2, 8, grad=trains) for _ in range(3)]
    tensors.append(_random(2, 5, 5, grad=trains))
    torch._dynamo.mark_static(tensors[-1])  # as parameters are
    options = dict(kernel_size=3, **options)
    return Case('neighborhood_attention', ops.neighborhood_attention, tensors, options, trains)


def _gather(project_keys: bool) -> Case:
    queries, lookup = _random(2, 3, 8), _random(2, 20, 8)
    weights = [_random(8, 8), _random(8), _random(8, 8), _random(8)]

    def gather(queries, lookup, key_weight, key_bias, value_weight, value_bias, **options):
        keys = Projection(lookup, key_weight, key_bias)
        values = Projection(lookup, value_weight, value_bias)
        keys = keys if project_keys else keys.apply()
        return ops.lookup_gather(queries, keys, values, 2, **options)

    return Case('lookup_gather', gather, [queries, lookup, *weights])


def _infuse() -> Case:
    weights = torch.rand(2, 2, 3, 20).requires_grad_()

    def infuse(weights, values, weight, bias, **options):
        return ops.lookup_infuse(weights, values, (weight, bias), **options)

    return Case('lookup_infuse', infuse, [weights, _random(2, 3, 8), _random(8, 8), _random(8)])


def _depthwise(bias: bool) -> Case:
    tensors = [_random(2, 4, 5, 6), _random(4, 1, 5, 5), _random(4)]
    return Case('depthwise_conv', ops.depthwise_conv, tensors[: 2 + bias])


def _softmax() -> Case:
    tensors = [_random(2, 2, 6, 8, dtype=torch.bfloat16, grad=False) for _ in range(3)]
    return Case('softmax_attention', ops.softmax_attention, tensors, trains=False)


CASES = {
    'quadtree A': lambda: _quadtree('A', 0),
    'quadtree A top-k': lambda: _quadtree('A', 4),
    'quadtree B': lambda: _quadtree('B', 0),
    'quadtree B top-k': lambda: _quadtree('B', 4),
    'quadtree inference': lambda: _quadtree('B', 4, trains=False),
    'slide': _slide,
    'slide masked': lambda: _slide(mask_borders=True),
    'slide reflect': lambda: _slide(padding_mode='reflect'),
    'slide inference': lambda: _slide(trains=False),
    'window': lambda: _window(rolled=False),
    'window rolled': lambda: _window(rolled=True),
    'window rolled inference': lambda: _window(rolled=True, trains=False),
    'neighborhood': _neighborhood,
    'neighborhood dilated': lambda: _neighborhood(dilation=2),
    'neighborhood inference': lambda: _neighborhood(trains=False),
    'lookup gather': lambda: _gather(project_keys=False),
    'lookup gather, keys absorbed': lambda: _gather(project_keys=True),
    'lookup infuse': _infuse,
    'depthwise': lambda: _depthwise(bias=True),
    'depthwise without bias': lambda: _depthwise(bias=False),
    'softmax': _softmax,
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _called(run: Callable[[], Any]) -> tuple[Any, set[str]]:
    """Result of a run, and the operators of ours that it called."""
    with torch.autograd.profiler.profile() as profile:
        result = run()
    names = {event.name for event in profile.function_events}
    return result, {name.split('::')[1] for name in names if name.startswith('mmeffvit::')}


def _recorded(case: Case) -> list[tuple[Any, tuple]]:
    """Overloads of ours in the traced graph, with what they are called with."""
    calls = []

    class Record(torch.fx.Interpreter):
        def call_function(self, target, args, kwargs):
            if getattr(target, 'namespace', None) == 'mmeffvit' or 'mmeffvit' in str(target):
                calls.append((target, args))
            return super().call_function(target, args, kwargs)

    def backend(graph, inputs):
        return Record(graph).run

    torch.compile(case.function, fullgraph=True, backend=backend)(*case.tensors, **case.options)
    return calls


@pytest.mark.parametrize('name', CASES)
def test_torchs_checks(name):
    """Schema, shapes and strides, gradients and tracing with open sizes."""
    case = CASES[name]()
    calls = _recorded(case)
    assert [target._qualified_op_name.split('::')[1] for target, _ in calls] == [case.operator]
    for target, args in calls:
        args = [
            x.detach().requires_grad_(x.requires_grad) if torch.is_tensor(x) else x for x in args
        ]
        overload = getattr(target, 'default', target)
        torch.library.opcheck(overload, tuple(args))


@pytest.mark.parametrize('backend', ['aot_eager', pytest.param('inductor', marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', CASES)
def test_compiled_calls_the_operator_and_equals_eager(name, backend):
    case = CASES[name]()
    expected, eager = _called(case.run)
    assert not eager  # an eager call goes to the implementation without the registration's cost
    compiled = torch.compile(case.function, fullgraph=True, dynamic=True, backend=backend)
    results, called = _called(lambda: case.run(compiled))
    composite = case.operator.startswith('lookup')
    if not composite:  # a composite one is in the graph (above), and taken apart behind it
        operators = [case.operator, f'{case.operator}_backward'] if case.trains else [case.operator]
        assert called == set(operators)
    for result, right in zip(results, expected, strict=True):
        tolerance = 2e-2 if right.dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(result, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('name', CASES)
def test_a_backend_asked_for_by_name_is_compiled(name):
    case = CASES[name]()
    compiled = torch.compile(case.function, fullgraph=True, backend='aot_eager')
    _, called = _called(lambda: case.run(compiled, backend='reference'))
    assert not called


def test_a_change_of_the_context_compiles_again():
    case = _slide(trains=False)
    compiled = torch.compile(case.function, fullgraph=True, backend='aot_eager')
    _, called = _called(lambda: case.run(compiled))
    assert called == {'slide_attention'}
    with ops.use_backend('reference'):
        _, called = _called(lambda: case.run(compiled))
        assert not called
    _, called = _called(lambda: case.run(compiled))
    assert called == {'slide_attention'}


@pytest.mark.parametrize('name', [name for name in CASES if 'lookup' not in name])
def test_counts_are_those_of_the_reference(name):
    """The registered formulas, forward and backward; composite operators are counted by parts."""
    case = CASES[name]()
    (target, args), *_ = _recorded(case)
    counts = []
    for run in (lambda: target(*args), lambda: case.function(*case.tensors, **case.options)):
        counter = FlopCounterMode(display=False)
        with counter, ops.use_backend('reference'), sdpa_kernel(SDPBackend.MATH):
            out = _tuple(run())[0]
            forward = counter.get_total_flops()
            if case.trains:
                out.sum().backward()
        counts.append((forward, counter.get_total_flops() - forward))
    assert counts[0][0] == counts[1][0] > 0
    if case.operator in ('slide_attention', 'depthwise_conv'):
        # torch counts the weight gradient of a depthwise convolution as if it were a dense one.
        assert counts[0][1] == 2 * counts[0][0] * case.trains <= counts[1][1]
    else:
        assert counts[0][1] == counts[1][1] == 2 * counts[0][0] * case.trains


@pytest.mark.parametrize(
    'name', ['quadtree A top-k', 'slide', 'window rolled', 'neighborhood dilated', 'depthwise']
)
def test_exporters_see_standard_operators(name):
    case = CASES[name]()
    visible = case.options.pop('visible', None)

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('visible', visible)

        def forward(self, *tensors):
            options = {} if self.visible is None else dict(visible=self.visible)
            return case.function(*tensors, **case.options, **options)

    tensors = tuple(x.detach() for x in case.tensors)
    program = torch.export.export(Module(), tensors)
    targets = {str(n.target) for n in program.graph.nodes if n.op == 'call_function'}
    assert targets and not any('mmeffvit' in target for target in targets)


# Checks of shapes are constants in a trace, as they should be.
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('name', ['quadtree B', 'slide', 'window rolled', 'depthwise'])
def test_traced_modules_hold_standard_operators(name):
    case = CASES[name]()
    tensors = tuple(x.detach() for x in case.tensors)
    trace = torch.jit.trace(
        lambda *x: [y for y in _tuple(case.function(*x, **case.options)) if y is not None], tensors
    )
    assert 'PythonOp' not in str(trace.graph)
    expected = [y for y in _tuple(case.function(*tensors, **case.options)) if y is not None]
    torch.testing.assert_close(trace(*tensors), expected, rtol=1e-4, atol=1e-5)


def _tuple(x):
    return x if isinstance(x, tuple) else (x,)


@pytest.mark.parametrize('name', ['quadtree A', 'slide', 'window rolled', 'depthwise'])
def test_transforms_of_functions(name):
    """Gradients of a function and batches of calls: by the reference, whatever is nested."""
    case = CASES[name]()
    tensors = [x.detach() for x in case.tensors]

    def loss(first, *others):
        return _tuple(case.function(first, *others, **case.options))[0].sin().sum()

    leaf = tensors[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf, *tensors[1:]), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(*tensors), expected, rtol=1e-4, atol=1e-5)

    batch = torch.stack([tensors[0], tensors[0].flip(0)])
    results = torch.vmap(torch.func.grad(loss), (0, *[None] * (len(tensors) - 1)))(
        batch, *tensors[1:]
    )
    torch.testing.assert_close(results[0], expected, rtol=1e-4, atol=1e-5)


def test_second_derivatives():
    case = _slide()
    q, *others = case.tensors
    with ops.use_backend('reference'):
        (grad,) = torch.autograd.grad(case.function(q, *others).sin().sum(), q, create_graph=True)
        assert torch.autograd.grad(grad.square().sum(), q)[0].isfinite().all()
    (target, args), *_ = _recorded(case)
    out = target(*args)[0]
    (grad,) = torch.autograd.grad(out.sin().sum(), args[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r'slide_attention_backward has no second derivatives'):
        torch.autograd.grad(grad.sum(), args[0])


def test_an_operator_refuses_vmap():
    (target, args), *_ = _recorded(_slide(trains=False))
    with pytest.raises(RuntimeError, match=r'torch\.vmap; use mmeffvit\.ops\.use_backend'):
        torch.vmap(lambda q: target(q, *args[1:]))(args[0].unsqueeze(0))


@pytest.mark.parametrize('name', ['quadtree A top-k', 'slide', 'window rolled', 'depthwise'])
def test_meta_tensors(name):
    case = CASES[name]()
    (target, args), *_ = _recorded(case)
    shapes = [x.shape for x in _tuple(target(*args))]
    args = [x.detach().to('meta') if torch.is_tensor(x) else x for x in args]
    assert [x.shape for x in _tuple(target(*args))] == shapes


@pytest.mark.parametrize('name', ['quadtree B', 'slide', 'window rolled', 'depthwise'])
def test_autocast(name):
    case = CASES[name]()
    compiled = torch.compile(case.function, fullgraph=True, backend='aot_eager')
    results = []
    for function in (compiled, case.function):
        with torch.autocast('cpu', torch.bfloat16):
            results.append(_tuple(function(*case.tensors, **case.options))[0])
    assert results[0].dtype == results[1].dtype
    torch.testing.assert_close(*results, rtol=2e-2, atol=2e-2)
