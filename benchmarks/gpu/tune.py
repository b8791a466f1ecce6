"""Tiles and warps of the kernels: compiled and checked in processes, timed one by one.

Every candidate is first run on two images and compared with float64. Only the chosen ones go into
the launch functions of the packages' kernels. Run by ``benchmarks/gpu_check.sh --parts tune``.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.records import Recorder, part_parser, read
from mmeffvit.ops.dispatch import triton_interpreted
from mmeffvit.ops.quadtree import reference as quadtree_reference
from mmeffvit.ops.quadtree import triton as quadtree
from mmeffvit.ops.slide import triton as slide

#: Heads, head width, side of the map, window.
SLIDE = {'k=3': (2, 32, 56, 3), 'k=7': (3, 32, 56, 7)}
BATCH, CHECKED = 64, 2
#: Largest error of a result relative to its norm, as in tests/ops/triton/test_precision.py.
LIMIT = 1e-2
#: Share of the time for compiling and checking.
CHECK_SHARE = 0.62

Config = dict[str, object]


class Slide:
    """Inputs of the kernels in bfloat16; launches and float64 results."""

    def __init__(self, batch: int, heads: int, D: int, side: int, size: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        K = size**2
        shape = (batch, side, side, heads, 3, D)
        qkv = (random(*shape) if device == 'cpu' else torch.randn(shape, device=device)) / D**0.25
        self.q, self.k, self.v = qkv.bfloat16().unbind(-2)
        self.grad_out = torch.randn(shape[:4] + (D,), device=device).bfloat16()
        self.banks = [0.02 * random(K, K, D) + torch.eye(K, device=device)[..., None] for _ in 'kv']
        self.biases = [0.1 * random(heads, K, D) for _ in 'kv']
        self.size = size

    @cached_property
    def exact(self) -> dict[str, tuple[Tensor, ...]]:
        """Float64 results of each kernel."""
        q, k, v, *tables = (
            x.double().requires_grad_() for x in (self.q, self.k, self.v, *self.banks, *self.biases)
        )
        size, side = self.size, self.q.shape[1]
        margin = size // 2

        def taps(x: Tensor, bank: Tensor, bias: Tensor) -> Tensor:
            padded = F.pad(x, (0, 0, 0, 0, *[margin] * 4))
            seen = torch.stack([
                padded[:, dy : dy + side, dx : dx + side]
                for dy in range(size) for dx in range(size)
            ])  # fmt: skip
            return torch.einsum('sbyxhd,sjd->byxhjd', seen, bank) + bias

        logits = torch.einsum('byxhd,byxhjd->byxhj', q, taps(k, tables[0], tables[2]))
        weights = logits.softmax(-1)
        out = torch.einsum('byxhj,byxhjd->byxhd', weights, taps(v, tables[1], tables[3]))
        grads = torch.autograd.grad(
            out, [q, k, tables[0], tables[2], logits], self.grad_out.double()
        )

        def by_head(x: Tensor) -> Tensor:
            return x.permute(0, 3, 1, 2, 4).detach()

        return {
            'forward': (out.detach(),),
            'query gradient': (grads[0], by_head(weights), by_head(grads[4])),
            'key gradient': (grads[1],),
            'bank gradient': (grads[2], grads[3]),
        }

    def launch(self, kernel: str, config: Config) -> tuple[Callable, Callable]:
        """A function that launches the kernel, and one that returns its results."""
        config = dict(config)
        programs = config.pop('PROGRAMS', slide.BANK_PROGRAMS)
        q, k, v, K = self.q, self.k, self.v, self.size**2
        options = slide.options(kernel, q, k, K, self.size // 2)
        options |= config
        width = options['BC']
        options['DP'] = -(-options['D'] // width) * width
        keys, values = slide.tables(*self.banks, *self.biases, q.dtype, options)
        result = torch.empty(q.shape, device=q.device, dtype=q.dtype)
        if kernel == 'forward':
            return (
                lambda: slide.launch_forward(q, k, v, keys, values, result, False, options),
                lambda: (result,),
            )
        taps = q.new_empty(2, *slide.taps_shape(q, options)).unbind()
        if kernel == 'query gradient':
            return (
                lambda: slide.launch_query_gradient(
                    self.grad_out, q, k, v, keys, values, result, *taps, False, options
                ),
                lambda: (result, *(x[..., :K] for x in taps)),
            )
        grads = taps[1]
        if len(q) == CHECKED:
            grads.zero_()[..., :K] = self.exact['query gradient'][2]
        else:
            grads.normal_()
        if kernel == 'key gradient':
            return (
                lambda: slide.launch_key_gradient(grads, q, keys[1], result, options),
                lambda: (result,),
            )
        found: list[Tensor] = []

        def run() -> None:
            found[:] = slide.bank_gradient(grads, q, k, K, options, programs)

        return run, lambda: tuple(found)


class Fine:
    """QuadTree's finer level in bfloat16: forward, or forward and backward."""

    def __init__(self, G: int, N: int, D: int, K: int, device: str) -> None:
        self.qkv = [torch.randn(G, N, D, device=device).bfloat16() for _ in 'qkv']
        self.index = torch.rand(G, N // 4, N // 4, device=device).topk(K).indices
        self.nodes = quadtree.flat_nodes(self.index, N // 4).int()
        self.grad_out = torch.randn(G, N, D, device=device).bfloat16()
        self.scale = D**-0.5

    @cached_property
    def exact(self) -> dict[str, tuple[Tensor, ...]]:
        """Float64 results."""
        leaves = [x.double().requires_grad_() for x in self.qkv]
        out = quadtree_reference.fine_level(*leaves, self.index, scale=self.scale, topk=0)[0]
        grads = torch.autograd.grad(out, leaves, self.grad_out.double())
        return {'forward': (out.detach(),), 'query gradient': grads, 'key gradient': grads}

    def launch(self, kernel: str, config: Config) -> tuple[Callable, Callable]:
        """A function that launches the kernels, and one that returns their results."""
        name = '_key_launch' if kernel == 'key gradient' else '_query_launch'
        chosen = dict(self._default[name], **config)
        results: list = []

        def run() -> None:
            previous = getattr(quadtree, name)
            setattr(quadtree, name, lambda *_: chosen)
            try:
                results[:] = self._run(kernel)
            finally:
                setattr(quadtree, name, previous)

        return run, lambda: tuple(results)

    @property
    def _default(self) -> dict[str, dict]:
        D, K = self.qkv[0].shape[-1], self.index.shape[-1]
        dtype = torch.bfloat16
        return {
            '_query_launch': quadtree._query_launch(K, D, dtype),
            '_key_launch': quadtree._key_launch(D, dtype),
        }

    @cached_property
    def _lse(self) -> Tensor:
        return quadtree.forward(*self.qkv, self.nodes, None, None, self.scale, 0)[3]

    def _run(self, kernel: str):
        if kernel == 'forward':
            return quadtree.forward(*self.qkv, self.nodes, None, None, self.scale, 0)[:1]
        options = (self.nodes, None, None, None, self._lse, self.scale)
        return quadtree.backward(self.grad_out, None, *self.qkv, *options)[:3]


def slide_configs(kernel: str, case: str) -> list[Config]:
    """Candidates, the most promising first."""

    def config(BM, warps, stages=1, order=False, maxnreg=None, **more) -> Config:
        return dict(
            BM=BM, BC=32, ORDER=order, num_warps=warps, num_stages=stages, maxnreg=maxnreg, **more
        )  # fmt: skip

    if kernel == 'bank gradient':
        return [
            config(BM, warps, PROGRAMS=programs)
            for programs in (4096, 8192, 2048)
            for BM, warps in itertools.product((64, 128), (2, 4))
        ]
    if case == 'k=3':
        found = [config(BM, 1, stages, True) for BM in (32, 64) for stages in (1, 2)]
        found += [config(32, 1, 1, True, maxnreg) for maxnreg in (80, 96, 112)]
        return [*found, config(64, 1, 1, True, 168), config(128, 4, 3), config(64, 4, 3)]
    return [config(BM, w, stages) for BM, w in ((128, 4), (64, 4), (128, 8)) for stages in (2, 3)]


def fine_configs(kernel: str) -> list[Config]:
    """Candidates of QuadTree."""
    if kernel == 'key gradient':
        return [
            dict(BLOCK_G=g, num_warps=w) for g, w in itertools.product((4, 8, 16), (1, 2))
        ]  # fmt: skip
    return [
        dict(BLOCK_D=d, BLOCK_C=c, num_warps=warps)
        for d, c, warps in itertools.product((32, 64), (32, 16), (1, 2))
    ]


def jobs(quick: bool) -> list[tuple[str, str, Config]]:
    """Candidates as (case, kernel, config), every kernel's first ones first; quick: few."""
    lists = [
        [(case, kernel, config) for config in slide_configs(kernel, case)]
        for kernel in slide.KERNELS
        for case in SLIDE
    ]
    lists += [
        [('QuadTree', kernel, c) for c in fine_configs(kernel)] for kernel in slide.KERNELS[:3]
    ]
    if quick:
        return [found[0] for found in lists[::3]]
    return [job for row in itertools.zip_longest(*lists) for job in row if job]


def problem(case: str, checked: bool, device: str, quick: bool):
    """Inputs of a case, small for the check."""
    if case == 'QuadTree':
        G, N = (2, 64) if quick else (CHECKED if checked else BATCH, 3136)
        return Fine(G, N, 64, 8, device)
    heads, D, side, size = SLIDE[case]
    if quick:
        heads, side = 2, 6
    return Slide(CHECKED if checked else BATCH, heads, D, side, size, device)


def check(case: str, kernel: str, config: Config, found: dict) -> dict:
    """Largest error of one candidate; ``found`` holds the problems of this process."""
    start = time.monotonic()
    run, results = found[case].launch(kernel, config)
    run()
    if found['device'] != 'cpu':
        torch.cuda.synchronize()
    # What the kernels round in between (weights, their gradients) is part of the error.
    errors = [
        float((a.double() - e).norm() / e.norm())
        for a, e in zip(results(), found[case].exact[kernel], strict=True)
    ]
    # The interpreter cuts off what bfloat16 cannot hold, which is twice the error of rounding.
    if not max(errors) <= (2 if triton_interpreted() else 1) * LIMIT:
        return dict(failure=f'differs from float64 by {max(errors):.1e}')
    return dict(error=max(errors), seconds=round(time.monotonic() - start, 1))


def check_share(first: int, step: int, device: str, quick: bool, log: Path) -> None:
    """Check every ``step``-th candidate; what the caller ends is not recorded."""
    recorder = Recorder(log)
    torch.manual_seed(0)
    found: dict = {'device': device}
    chosen = jobs(quick)
    for number in range(first, len(chosen), step):
        case, kernel, config = chosen[number]
        try:
            if case not in found:
                found[case] = problem(case, True, device, quick)
            result = check(case, kernel, config, found)
        except Exception as error:  # what fails leaves the others
            result = dict(failure=f'{type(error).__name__}: {error}'[:300])
        recorder.write('checked', number=number, **result)


def main() -> None:
    """Check in processes, then time what passed."""
    args = part_parser(__doc__).parse_args()
    start = time.monotonic()
    recorder = Recorder(args.log)
    chosen = jobs(args.quick)
    checks = args.log.with_suffix('.checks')
    step = max(1, min(15, (os.cpu_count() or 1) - 1))
    context = multiprocessing.get_context('spawn')
    processes = [
        context.Process(target=check_share, args=(i, step, args.device, args.quick, checks))
        for i in range(step)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0.1, start + CHECK_SHARE * args.seconds - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    results = {r['number']: r for r in read(checks)} if checks.exists() else {}
    checks.unlink(missing_ok=True)
    print(
        f'{len(results)} of {len(chosen)} checked in {time.monotonic() - start:.0f} s', flush=True
    )
    problems: dict = {}
    for number, (case, kernel, config) in enumerate(chosen):
        result = dict(results.get(number, dict(failure='not compiled in time')))
        result.pop('kind', None)
        if 'failure' not in result and time.monotonic() > start + args.seconds:
            result['failure'] = 'no time left'
        if 'failure' not in result:
            try:
                if case not in problems:
                    problems[case] = problem(case, args.quick, args.device, args.quick)
                result['time'] = timed(problems[case].launch(kernel, config)[0], args.device)
            except Exception as error:
                result['failure'] = f'{type(error).__name__}: {error}'[:300]
        recorder.write('candidate', case=case, kernel=kernel, config=config, **result)
        print(case, kernel, config, result, flush=True)


def timed(run: Callable, device: str) -> float:
    """Seconds of a launch, in a CUDA graph."""
    if device == 'cpu':
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    from triton.testing import do_bench_cudagraph

    return do_bench_cudagraph(run, rep=6, return_mode='median') / 1e3


if __name__ == '__main__':
    sys.exit(main())
