"""What every command line of the package shares: errors a user can act on, in one line."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake the user can mend: a missing path, package or option.

    The message is one sentence that names the value at fault and the remedy.
    """


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line and exit with its status.

    A ``UserError`` becomes one line on stderr and exit code 2, without a traceback; any other
    exception is a bug and keeps its traceback.

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
    except UserError as error:
        message = ' '.join(str(error).split())
        print(f'error: {message}', file=sys.stderr)
        code = 2
    sys.exit(code or 0)
