"""torchrun, without its traceback where a process ended with one line for the user.

The scripts that start several processes run ``python -m mmeffvit.cli.torchrun``: options and
behaviour are torchrun's, but a mistake that the first process has named ends with exit code 2, and
a signal with 128 plus its number.
"""

from __future__ import annotations

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as run

#: Exit code of a mistake that the user can mend.
USER_ERROR = 2


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the launcher says more than that a process ended as it should."""
    text = record.getMessage()
    return f'exitcode: {USER_ERROR})' not in text and 'closing signal SIGTERM' not in text


def main() -> None:
    """Run torchrun with the arguments of this process."""
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').addFilter(_is_news)
    try:
        run()
    except ChildFailedError as error:
        if any(failure.exitcode == USER_ERROR for failure in error.failures.values()):
            sys.exit(USER_ERROR)
        raise
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == '__main__':
    main()
