"""Errors of command lines: what the user can mend ends in one line and exit code 2."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..checkpoints import CheckpointError
from ..checkpoints.load import LOGGER
from ..engine.checkpoint import NonFiniteError
from ..utils.requirements import explain_import_error


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
        raise UserError(str(error)) from error


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line and exit with its status.

    A :class:`UserError`, a checkpoint that cannot be used, a loss that is not finite, or an
    OpenMMLab library that is not installed, becomes one line on stderr and exit code 2, without a
    traceback; any other exception is a bug and keeps its traceback. What is loaded from
    checkpoints is said on stderr.

    Args:
        main (Callable): The command, without arguments; returns an exit code or None for 0.

    Raises:
        SystemExit: Always.

    Example:
        >>> if __name__ == '__main__':
        ...     run_cli(main)
    """
    first = os.environ.get('RANK', '0') == '0'
    LOGGER.setLevel(logging.INFO if first else logging.ERROR)
    handler = logging.StreamHandler()
    LOGGER.addHandler(handler)
    try:
        code = main()
    except (UserError, CheckpointError, NonFiniteError) as error:
        code = _complain(str(error))
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error):
            raise
        code = _complain(f'{error} Out of (shared) memory? Use fewer workers or smaller batches.')
    except ImportError as error:
        advice = explain_import_error(error)
        if advice is None:
            raise
        code = _complain(advice)
    finally:
        LOGGER.removeHandler(handler)
    sys.exit(code or 0)


def add_allow_partial(parser: argparse.ArgumentParser) -> None:
    """Add the option for :func:`mmeffvit.checkpoints.partial_allowed`."""
    parser.add_argument(
        '--allow-partial', action='store_true', help='load what fits of weights that do not'
    )


def _complain(message: str) -> int:
    print('error:', ' '.join(message.split()), file=sys.stderr)
    return 2
