#!/usr/bin/env python
"""Compile the Triton kernels for GPUs that need not be there, and check what the code uses.

    benchmarks/compile_kernels.py                          # every op, sm_80, sm_90 and sm_100
    benchmarks/compile_kernels.py quadtree --targets 90 --only 'K=8'

A kernel passes if it spills nothing (stack = 0), takes at most 128 registers per thread (168 in a
program of up to four warps: three of those still fit a multiprocessor, and on an H200 they were
faster than smaller ones) and multiplies on matrix units. The module triton.py of an op names in
COMPILE_CASES calls of its op; the kernels are compiled exactly as these calls launch them. Exits
with 1 if one fails.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import re
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

# The interpreter would take the place of the compiler; Triton is imported with the package.
os.environ.pop('TRITON_INTERPRET', None)

from mmeffvit import ops
from mmeffvit.cli.errors import UserError, run_cli

TARGETS = (80, 90, 100)
MAX_REGISTERS, MAX_REGISTERS_FEW_WARPS = 128, 168


class Usage(NamedTuple):
    """What one compiled kernel uses.

    Attributes:
        case (str): The call that launched it.
        kernel (str): Its name.
        target (int): Compute capability times ten.
        warps (int): Warps of a program.
        registers (int): Registers of a thread.
        stack (int): Bytes of stack of a thread: spilled registers.
        shared (int): Bytes of shared memory of a program.
        products (int): Instructions of matrix units.
    """

    case: str
    kernel: str
    target: int
    warps: int
    registers: int
    stack: int
    shared: int
    products: int

    @property
    def passes(self) -> bool:
        """Whether the kernel spills nothing, is lean enough and uses matrix units."""
        most = MAX_REGISTERS if self.warps > 4 else MAX_REGISTERS_FEW_WARPS
        return self.stack == 0 and self.registers <= most and self.products > 0


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ops', nargs='*', help=f'of {", ".join(op_names())}; default: all')
    parser.add_argument('--targets', nargs='+', type=int, default=TARGETS, help='e.g. 80 90')
    parser.add_argument('--only', default='', help='compile the cases whose name contains this')
    return parser.parse_args()


def op_names() -> list[str]:
    """Names of the ops that have kernels."""
    return [
        module.name
        for module in pkgutil.iter_modules(ops.__path__)
        if module.ispkg and find_spec(f'{ops.__name__}.{module.name}.triton')
    ]


def main() -> int:
    """Compile, print a table; returns the exit code."""
    args = parse_args()
    unknown = set(args.ops) - set(op_names())
    if unknown:
        raise UserError(
            f'No op {", ".join(sorted(unknown))} has kernels; {", ".join(op_names())} have.'
        )
    cases = {
        f'{op} {name}': run
        for op in args.ops or op_names()
        for name, run in _module(op).COMPILE_CASES.items()
        if args.only in name
    }
    if not cases:
        raise UserError(f'No case has {args.only!r} in its name.')
    usages = [
        usage
        for name, run in track(cases.items(), console=Console(stderr=True))
        for target in args.targets
        for usage in compile_case(name, run, target)
    ]
    Console(width=120).print(table(usages))
    failures = [usage for usage in usages if not usage.passes]
    for usage in failures:
        print('failed:', *(f'{name}={value}' for name, value in usage._asdict().items()))
    return 1 if failures else 0


def _module(op: str):
    try:
        return importlib.import_module(f'{ops.__name__}.{op}.triton')
    except ModuleNotFoundError as error:
        if error.name != 'triton':
            raise
        raise UserError('Triton is not installed: pip install triton.') from None


def compile_case(name: str, run, target: int) -> list[Usage]:
    """Compile what one call launches.

    Args:
        name (str): Name of the case.
        run (Callable): Calls the op on CPU tensors; nothing is launched.
        target (int): Compute capability times ten.

    Returns:
        list[Usage]: One per kernel, in the order of their first launch.
    """
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    compiled = {}
    launch = JITFunction.run

    def compile_only(kernel, *args, grid, warmup, **options):
        result = launch(kernel, *args, grid=grid, warmup=True, **options)
        compiled[result.hash] = result

    previous = driver._active
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: target,
            get_current_stream=lambda device: 0,
            get_current_target=lambda: GPUTarget('cuda', target, 32),
        )
    )
    JITFunction.run = compile_only
    try:
        run()
    finally:
        JITFunction.run = launch
        driver.set_active(previous)
    return [_usage(name, target, kernel) for kernel in compiled.values()]


def _usage(case: str, target: int, kernel) -> Usage:
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / 'bin' / 'cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as cubin:
        cubin.write(kernel.asm['cubin'])
        cubin.flush()
        command = [tool, '--dump-resource-usage', cubin.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf'{key}:(\d+)', report)[1]) for key in ('REG', 'STACK'))
    # mma.sync, wgmma.mma_async, and tcgen05.mma, which has a predicate before it
    products = len(re.findall(r'\bmma[._]', kernel.asm['ptx']))
    meta = kernel.metadata
    return Usage(case, meta.name, target, meta.num_warps, registers, stack, meta.shared, products)


def table(usages: list[Usage]) -> Table:
    """A row per kernel; what fails is red."""
    result = Table(*(field.replace('_', ' ') for field in Usage._fields))
    for usage in usages:
        result.add_row(*map(str, usage), style=None if usage.passes else 'red')
    return result


if __name__ == '__main__':
    run_cli(main)
