"""torchrun, which starts the processes of a training, without its own pages of words when one of them ends.

    python -m tasks.training.launcher [arguments of torchrun]

Each process has said in one line what was wrong. Exit status: that of the first that failed; 128 + the signal that
ended all.
"""

from __future__ import annotations

import logging
import sys

from tasks.core.error_lines import one_line


def main() -> None:
    """Entry point."""
    logging.disable()  # of the launcher, not of its processes
    with one_line():
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.run import main as torchrun

        try:
            torchrun()
        except SignalException as stopped:
            sys.exit(128 + stopped.sigval)
        except ChildFailedError as error:
            status = error.get_first_failure()[1].exitcode
            sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    main()
