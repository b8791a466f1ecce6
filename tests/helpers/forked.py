"""Work in forked processes, which start at once and may be killed or run out of disk."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

_CONTEXT = multiprocessing.get_context('forkserver')
#: Seconds after which a process counts as hung.
PATIENCE = 120


def start(target: Callable, *arguments: Any) -> BaseProcess:
    """Call a function in a process that has imported the package and the frameworks already."""
    # The server that forks is not told the module search path of this process.
    path = os.pathsep.join(filter(None, sys.path))
    with mock.patch.dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1'):
        _CONTEXT.set_forkserver_preload(['helpers.preloaded'])
        forkserver.ensure_running()
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def pipe() -> tuple[Any, Any]:
    """The ends that a parent reads from and a child writes to."""
    return _CONTEXT.Pipe(duplex=False)


def ended(process: BaseProcess) -> int:
    """Wait for a process; returns its exit code, negative if a signal ended it."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f'still running after {PATIENCE} seconds')
    return process.exitcode


class KillAt:
    """Kill this process at one of its calls of Python and C functions, counted from now.

    Args:
        call (int): Which; 0 for none, to count them.
    """

    def __init__(self, call: int) -> None:
        self.done = 0
        self._call = call
        sys.setprofile(self._count)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        self.done += 1
        if self.done == self._call:
            os.kill(os.getpid(), signal.SIGKILL)


def signal_after(seconds: float, number: int) -> None:
    """Signal this process when it has used so much processor time from now."""

    def send(_: int, frame: FrameType | None) -> None:
        # Python ignores what a handler raises in a finalizer.
        while frame is not None:
            if frame.f_code.co_name in ('__del__', '_remove', 'remove'):
                signal.setitimer(signal.ITIMER_PROF, 0.001)
                return
            frame = frame.f_back
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGPROF, send)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def train(folder: Path, seed: int, call: int, options: dict, ema: bool, answer: Any) -> None:
    """Train the tiny model, from where an earlier run of this folder ended.

    Args:
        folder (Path): The work directory.
        seed (int): Of the initial weights; what is resumed must not depend on them.
        call (int): Function call of the training at which it is killed; 0 for none.
        options (dict): Of :func:`.tiny_runs.runner`.
        ema (bool): Whether to average the weights.
        answer (Connection): Gets the number of calls of a training that ends.
    """
    import torch
    from mmengine.hooks import EMAHook

    from helpers.tiny_runs import Net, runner

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    hooks = [EMAHook(momentum=0.1)] if ema else []
    # A runner asks compilers for their versions, which takes longer than the run.
    with mock.patch('mmengine.runner.runner.collect_env', return_value={}):
        run = runner(folder, model=Net(), hooks=hooks, resume=True, **options)
    counted = KillAt(call)
    run.train()
    sys.setprofile(None)
    answer.send(counted.done)


def train_in_two(rank: int, folder: Path, stop: int | None, seed: int, by_epoch: bool) -> None:
    """Train the tiny model as one of two processes, accumulating gradients over three iterations.

    Args:
        rank (int): Of this process.
        folder (Path): The work directory.
        stop (int, optional): Iteration after which both end, as if they were killed.
        seed (int): Of the initial weights.
        by_epoch (bool): How the loop counts.
    """
    import torch
    from torch import distributed

    from helpers.tiny_runs import Net, StopAfter, StopError, runner

    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    store = folder.with_name(f'{folder.name}-{stop}-{seed}')
    distributed.init_process_group('gloo', f'file://{store}', rank=rank, world_size=2)
    torch.manual_seed(seed)
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    with mock.patch('mmengine.runner.runner.collect_env', return_value={}):
        run = runner(
            folder,
            model=Net(),
            hooks=[] if stop is None else [StopAfter(stop)],
            by_epoch=by_epoch,
            wrapper=dict(accumulative_counts=3),
            resume=True,
            launcher='pytorch',
            cfg=dict(model_wrapper_cfg=wrapper),
        )
    try:
        run.train()
    except StopError:
        os._exit(9)


def run_tool(
    tool: str, arguments: list[str], folder: Path, log: Path, when: float, number: int, answer: Any
) -> None:
    """Run ``tools/<tool>`` in a folder, as a process of its own would.

    Args:
        tool (str): The script.
        arguments (list[str]): Its arguments.
        folder (Path): Where.
        log (Path): Gets what it prints.
        when (float): Seconds of its work after which it is signalled; 0 for never.
        number (int): The signal.
        answer (Connection): Gets the seconds of a command that ends.
    """
    import torch

    from helpers.tool_runs import ROOT
    from mmeffvit.cli import errors

    os.chdir(folder)
    with log.open('wb') as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run_cli = errors.run_cli

    def timed(main: Callable) -> None:
        def run() -> Any:
            if when:
                signal_after(when, number)
            start = time.process_time()
            code = main()
            answer.send(time.process_time() - start)
            return code

        run_cli(run)

    sys.argv = [tool, *arguments]
    with (
        mock.patch.object(errors, 'run_cli', timed),
        mock.patch('mmengine.runner.runner.collect_env', return_value={}),
    ):
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')


def write_limited(write: Callable[[Path], None], path: Path, limit: int, answer: Any) -> None:
    """Write a file where none may be larger than ``limit`` bytes, as on a disk that is full.

    Args:
        write (Callable): Writes a file at a path.
        path (Path): Where.
        limit (int): Bytes.
        answer (Connection): Gets the type and the message of what was raised, or None.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write(path)
    except Exception as error:
        answer.send((type(error).__name__, str(error)))
    else:
        answer.send(None)


def write_picture(path: Path) -> None:
    """Noise, which no codec makes small."""
    import numpy as np

    from mmeffvit.utils.images import write_image

    write_image(path, np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8))


def write_video(path: Path) -> None:
    """Frames of noise."""
    import numpy as np

    from mmeffvit.utils.videos import VideoWriter

    with VideoWriter(path, 10) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8):
            writer.write(frame)


def write_predictions(path: Path) -> None:
    """A JSON file."""
    from mmeffvit.utils.atomic import write_json

    write_json(path, list(range(50000)))


def write_converted(path: Path) -> None:
    """Weights, as ``tools/convert_checkpoint.py`` does."""
    import torch

    from mmeffvit.checkpoints import write_weights

    write_weights(dict(weight=torch.zeros(50000)), path, {})


def write_training_state(path: Path) -> None:
    """A checkpoint of a run."""
    import torch

    from mmeffvit.checkpoints.write import save_checkpoint

    save_checkpoint(dict(state_dict=dict(weight=torch.zeros(50000))), path)


def write_plot(path: Path) -> None:
    """A figure, as ``tools/visualization/attention.py`` does."""
    import numpy as np
    from matplotlib.figure import Figure

    from mmeffvit.utils.atomic import atomic

    figure = Figure()
    figure.add_subplot().imshow(np.random.default_rng(0).random((300, 300)))
    with atomic(path) as partial:
        figure.savefig(partial, dpi=120)
