"""Errors of command lines: what the user can mend ends in one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..checkpoints import CheckpointError
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

    A :class:`UserError`, a checkpoint that cannot be used, or an OpenMMLab library that is not
    installed, becomes one line on stderr and exit code 2, without a traceback; any other exception
    is a bug and keeps its traceback.

    Args:
        main (Callable): The command, without arguments; returns an exit code or None for 0.

    Raises:
        SystemExit: Always.

    Example:
        >>> if __name__ == '__main__':
        ...     run_cli(main)
    """
    try:
        code = main()
    except (UserError, CheckpointError) as error:
        code = _complain(str(error))
    except ImportError as error:
        advice = explain_import_error(error)
        if advice is None:
            raise
        code = _complain(advice)
    sys.exit(code or 0)


def _complain(message: str) -> int:
    print('error:', ' '.join(message.split()), file=sys.stderr)
    return 2
