"""Log lines of a run on stderr: plain on a terminal, with the time in a log file."""

import logging
import sys


class StderrHandler(logging.Handler):
    """Writes to what stderr is at the moment: a progress bar puts itself in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s" if sys.stderr.isatty() else "%(asctime)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        print(self.format(record), file=sys.stderr)
