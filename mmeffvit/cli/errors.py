"""Errors of command lines: user errors end in one line and exit code 2."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..checkpoints.load import LOGGER
from ..version import __version__
from .explain import explain

#: Set by launchers to the number of a process.
_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
#: How long the other processes of a launcher wait for the first to say what is wrong.
SECONDS_FOR_THE_FIRST = 60


class UserError(ValueError):
    """A mistake that the user can mend: a missing path, package or option.

    The message is one sentence that names the value at fault and the remedy.
    """


@contextmanager
def user_input() -> Iterator[None]:
    """Treat a ``ValueError`` or ``OSError`` of the code inside as the user's mistake.

    For the part of a command that reads what the user gave: configs, checkpoints, images, options.
    Outside of it the same exceptions are bugs and keep their traceback.

    Raises:
        UserError: With the message of the exception.

    Example:
        >>> with user_input():
        ...     model = find_model(args.model)
    """
    try:
        yield
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(explain(error) or str(error)) from error


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line and exit with its status.

    What the user can mend (a :class:`UserError`, and what :func:`.explain.explain` knows) becomes
    one line on stderr and exit code 2, without a traceback; of several processes the first says
    it. Any other exception is a bug: its traceback is followed by a request to report it, the exit
    code is 1. SIGINT (Ctrl-C) and SIGTERM become one line, too, and 128 plus their number: 130 and
    143. With ``MMEFFVIT_DEBUG=1`` in the environment every traceback is shown. What is loaded from
    checkpoints is said on stderr.

    Args:
        main (Callable): The command, without arguments; returns an exit code or None for 0.

    Raises:
        SystemExit: Always.

    Example:
        >>> if __name__ == '__main__':
        ...     run_cli(main)
    """
    LOGGER.setLevel(logging.INFO if process_rank() == 0 else logging.ERROR)
    handler = logging.StreamHandler()
    LOGGER.addHandler(handler)
    received: list[signal.Signals] = []
    code = None
    try:
        with _signals_raise(received):
            code = main()
    except KeyboardInterrupt:
        received = received or [signal.SIGINT]
    except Exception as error:
        # A library may have made another exception of the interruption.
        code = None if received else _complain(error)
    finally:
        LOGGER.removeHandler(handler)
    if received:
        code = 128 + received[0]
        if process_rank() == 0:
            print(f'error: interrupted by {received[0].name}.', file=sys.stderr)
    sys.exit(code or 0)


@contextmanager
def _signals_raise(received: list[signal.Signals]) -> Iterator[None]:
    """Raise KeyboardInterrupt on the first SIGINT or SIGTERM; a second one has its usual effect.

    What is half-written is cleared away by those who write it.

    Args:
        received (list): Gets the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if any(name in os.environ for name in _RANKS):
        # A process that waits for others in a collective never gets to raise.
        numbers.remove(signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    # Commands in the background of a shell ignore SIGINT; None is a handler of a library in C.
    before = {k: v for k, v in before.items() if v not in (signal.SIG_IGN, None)}

    def stop(number: int, frame: object) -> None:
        restore()
        if os.getpid() != owner:  # a worker that was forked
            os.kill(os.getpid(), number)
            return
        received.append(signal.Signals(number))
        raise KeyboardInterrupt

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def add_allow_partial(parser: argparse.ArgumentParser) -> None:
    """Add the option for :func:`mmeffvit.checkpoints.partial_allowed`."""
    parser.add_argument(
        '--allow-partial', action='store_true', help='load what fits of weights that do not'
    )


def _complain(error: Exception) -> int:
    """Print what is wrong; returns the exit code."""
    message = str(error) if isinstance(error, UserError) else explain(error)
    if message is None or os.environ.get('MMEFFVIT_DEBUG', '0') not in ('', '0'):
        traceback.print_exception(error)
    if message is None:
        print(
            f'This is a fault of mmeffvit {__version__}, not of what you gave: please report it '
            'in its issue tracker, with the lines above and the output of '
            'python -m mmeffvit.cli.collect_env.',
            file=sys.stderr,
        )
        return 1
    if process_rank() > 0:
        # The launcher ends this process once the first has said the same.
        time.sleep(SECONDS_FOR_THE_FIRST)
    print('error:', ' '.join(message.split()), file=sys.stderr)
    return 2


def process_rank() -> int:
    """Number of this process among those of its launcher."""
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0)
