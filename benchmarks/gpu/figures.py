"""Time of the operators on a GPU beside its ceilings: bandwidth of a copy, rate of a product.

Floors come from counting: the bytes that must move (every input read once, every output written
once) over the measured bandwidth, and the multiply-adds that must be done over the measured rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.baselines import quadtree as quadtree_baselines
from benchmarks.baselines import slide as slide_baselines
from benchmarks.gpu.records import Recorder, part_parser
from mmeffvit.ops import quadtree_fine, slide_attention

DTYPES = {'bfloat16': torch.bfloat16, 'float32': torch.float32}
#: Largest relative difference of an output from the torch path's in float32.
TOLERANCE = 3e-2
#: Batch times heads, queries, head width, candidates, kept for the next level.
FINE = ((64, 3136, 64, 8, 0), (64, 3136, 64, 8, 8), (128, 784, 64, 8, 0), (64, 3136, 64, 32, 0))
#: Batch, heads, head width, side of the map, window.
SLIDE = ((64, 2, 32, 56, 3), (64, 3, 32, 56, 7), (64, 4, 32, 28, 3), (64, 3, 32, 56, 5))
QUICK_FINE, QUICK_SLIDE = ((2, 16, 16, 2, 0),), ((1, 1, 16, 3, 3),)


def main() -> None:
    """Measure ceilings and operators, in the order of their importance."""
    args = part_parser(__doc__).parse_args()
    end = time.monotonic() + args.seconds
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    recorder = Recorder(args.log)
    ceilings = measure_ceilings(args.device, recorder, args.quick)
    fine, slide = (QUICK_FINE, QUICK_SLIDE) if args.quick else (FINE, SLIDE)
    jobs = [
        (make, shape, dtype)
        for dtype in DTYPES
        for pair in zip(fine, slide)
        for make, shape in zip((quadtree_job, slide_job), pair)
        if dtype == 'bfloat16' or shape in (fine[0], slide[0])
    ]
    for make, shape, dtype in jobs:
        if time.monotonic() > end:
            recorder.write('operator', name=make.__name__, shape=shape, failure='no time left')
            continue
        name, leaves, candidates, cost = make(*shape, DTYPES[dtype], args.device)
        expected = candidates['torch'](*(x.float() for x in leaves))
        if args.device.startswith('cuda'):
            del candidates['torch']  # made for caches of CPUs; it takes most of the time
        for candidate, run in candidates.items():
            found = dict(name=name, shape=shape, dtype=dtype, candidate=candidate)
            try:
                error = harness.difference([run(*leaves).float()], [expected])
                if not error <= TOLERANCE:
                    raise AssertionError(f'differs from the torch path by {error:.1e}')
                found |= measure(run, leaves, cost, ceilings, args.device)
                found['error'] = error
            except Exception as error:  # one candidate that fails leaves the others
                found['failure'] = f'{type(error).__name__}: {error}'[:600]
            recorder.write('operator', **found)


def measure_ceilings(device: str, recorder: Recorder, quick: bool) -> dict[str, float]:
    """Bytes per second of a copy; operations per second of products, by dtype."""
    side, length = (256, 2**18) if quick else (8192, 2**29)
    source, target = torch.randn(2, length, device=device).unbind()
    ceilings = {'bytes': 2 * source.nbytes / median_time(partial(target.copy_, source), device)}
    del source, target
    for name, dtype in DTYPES.items():
        a, b = torch.randn(2, side, side, device=device).to(dtype).unbind()
        ceilings[name] = 2 * side**3 / median_time(partial(torch.mm, a, b), device)
    for name, value in ceilings.items():
        recorder.write('ceiling', name=name, per_second=value)
    return ceilings


def median_time(run: Callable, device: str) -> float:
    """Seconds of a call; on a GPU with a cold cache, by events."""
    if device.startswith('cuda'):
        from triton.testing import do_bench

        return do_bench(run, warmup=25, rep=100, return_mode='median') / 1e3
    clock = harness.choose_clock(device)
    return harness.measure({'': run}, 2, clock, device)[''].median


def graph_time(run: Callable, device: str) -> float | None:
    """Seconds of a call replayed as a CUDA graph, without launch gaps; None if it has no graph."""
    if not device.startswith('cuda'):
        return None
    from triton.testing import do_bench_cudagraph

    try:
        return do_bench_cudagraph(run, rep=50, return_mode='median') / 1e3
    except RuntimeError:
        torch.cuda.synchronize()
        return None


def measure(run: Callable, leaves: list[Tensor], cost: dict, ceilings: dict, device: str) -> dict:
    """Forward, backward, memory and the largest kernels of one candidate."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    dtype = str(leaves[0].dtype).removeprefix('torch.')

    def forward() -> Tensor:
        with torch.no_grad():
            return run(*leaves)

    out = run(*leaves)
    weights = torch.randn_like(out)

    def backward() -> None:
        torch.autograd.grad(out, leaves, weights, retain_graph=True)

    def both() -> None:
        torch.autograd.grad(run(*leaves), leaves, weights)

    found = dict(
        forward=median_time(forward, device),
        backward=median_time(backward, device),
        forward_graph=graph_time(forward, device),
        peak_forward=harness.peak_memory(forward, device),
        peak_both=harness.peak_memory(both, device),
        saved=saved_bytes(run, leaves),
        kernels=kernel_times(both, device),
        **cost,
    )
    floor = max(cost['bytes'] / ceilings['bytes'], cost['operations'] / ceilings[dtype])
    seconds = found['forward_graph'] or found['forward']
    return dict(
        found,
        floor=floor,
        bandwidth_share=cost['bytes'] / seconds / ceilings['bytes'],
        rate_share=cost['operations'] / seconds / ceilings[dtype],
    )


def saved_bytes(run: Callable, leaves: list[Tensor]) -> int:
    """Bytes kept for backward beyond inputs and output."""
    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.setdefault(x.untyped_storage().data_ptr(), x), lambda x: x
    ):
        out = run(*leaves)
    for known in (*leaves, out):
        kept.pop(known.untyped_storage().data_ptr(), None)
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def kernel_times(run: Callable, device: str, largest: int = 8) -> dict[str, float]:
    """Seconds of the kernels of a call that take longest."""
    if not device.startswith('cuda'):
        return {}
    from torch.profiler import ProfilerActivity, profile

    run()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(3):
            run()
        torch.cuda.synchronize()
    events = [e for e in profiled.key_averages() if e.self_device_time_total]
    events.sort(key=lambda e: -e.self_device_time_total)
    return {e.key[:90]: e.self_device_time_total / 3e6 for e in events[:largest]}


def quadtree_job(G: int, N: int, D: int, K: int, topk: int, dtype: torch.dtype, device: str):
    """The fine level of QuadTree: name, inputs, candidates and what they must cost."""
    leaves = [torch.randn(G, N, D, device=device, dtype=dtype) for _ in 'qkv']
    index = torch.rand(G, N // 4, N // 4, device=device).topk(K).indices

    def ours(backend: str) -> Callable:
        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            options = dict(scale=D**-0.5, topk=topk, backend=backend)
            return quadtree_fine(q, k, v, index, **options)[0]

        return run

    candidates = {name: ours(name) for name in ('triton', 'torch')}
    if not topk:
        for name, baseline in (
            ('(a) per-query', quadtree_baselines.fine_per_query),
            ('(b) per-group', quadtree_baselines.fine_per_group),
        ):
            candidates[name] = lambda q, k, v, f=baseline: f(q, k, v, index, D**-0.5)[0]
    # Messages are float32; two products of every query with 4K rows.
    moved = sum(x.nbytes for x in leaves) + 4 * G * N * D + index.nbytes + 4 * G * N
    cost = dict(bytes=moved, operations=4 * G * N * 4 * K * D)
    return f'QuadTree fine level, topk={topk}', leaves, candidates, cost


def slide_job(B: int, heads: int, D: int, side: int, size: int, dtype: torch.dtype, device: str):
    """Slide attention with a learned bank."""
    taps = size**2
    qkv = torch.randn(B, side, side, heads, 3, D, device=device, dtype=dtype).unbind(-2)
    qkv = [x / D**0.25 for x in qkv]
    tables = [
        torch.randn(shape, device=device) for shape in ((D, taps, taps), (D, taps), (heads, taps))
    ]
    tables[0] /= size

    def ours(backend: str) -> Callable:
        return lambda *tensors: slide_attention(*tensors, backend=backend)

    def convolutions(fixed: bool) -> Callable:
        def run(q, k, v, weight, bias, rpb) -> Tensor:
            maps = (x.permute(0, 3, 4, 1, 2).flatten(0, 1).contiguous() for x in (q, k, v))
            kernel = weight.to(q.dtype).reshape(D * taps, 1, size, size)
            banks = [(kernel, bias.to(q.dtype).flatten())]
            if fixed:  # as published: a convolution that shifts beside the learned one
                shift = torch.eye(taps, device=q.device, dtype=q.dtype).repeat(D, 1)
                shift = shift.view_as(kernel)
                banks = [(kernel - shift, banks[0][1]), (shift, torch.zeros_like(banks[0][1]))]
            table = rpb.to(q.dtype).view(1, heads, 1, taps, 1, 1)
            out = slide_baselines.attend(*maps, banks, table, size)
            return out.permute(0, 3, 4, 1, 2).contiguous()

        return run

    candidates = {name: ours(name) for name in ('triton', 'torch')}
    candidates |= {'two convolutions': convolutions(True), 'one convolution': convolutions(False)}
    moved = 4 * qkv[0].nbytes + sum(x.nbytes for x in tables)
    # Products of pixels with the bank, for keys and for values; softmax and shifts are less.
    cost = dict(bytes=moved, operations=2 * 2 * B * heads * side**2 * D * taps * taps)
    return f'Slide, k={size}', [*qkv, *tables], candidates, cost


if __name__ == '__main__':
    main()
