"""What every command line of the package shares: errors a user can act on, in one line."""

import sys
from collections.abc import Callable

from ..checkpoints import CheckpointError
from .requirements import explain_import_error


class UserError(Exception):
    """A mistake the user can mend: a missing path, package or option.

    The message is one sentence that names the value at fault and the remedy.
    """


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line and exit with its status.

    A ``UserError``, a checkpoint that cannot be used, or an OpenMMLab library that is not
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
