"""Show progress: a bar on a terminal, plain lines in a log."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("tunesmith")
EVERY = 30.0
"""Seconds between plain lines."""


class Bar:
    """Progress through `total` units: a rich bar if stderr is a terminal, else a log line every 30 seconds."""

    def __init__(self, what: str, unit: str, total: int, done: int = 0):
        self.what, self.unit, self.total, self.done = what, unit, total, done
        self.last_line = time.monotonic()
        self.rich = _rich_bar() if sys.stderr.isatty() else None
        if self.rich:
            self.rich.start()
            self.task = self.rich.add_task(what, total=total, completed=done, note="")

    def advance(self, note: str = "", by: int = 1) -> None:
        """Advance by `by` units and show a short note."""
        self.done += by
        if self.rich:
            self.rich.update(self.task, completed=self.done, note=note)
        elif time.monotonic() - self.last_line > EVERY:
            self.last_line = time.monotonic()
            log.info("%-11s %s of %s %s %s", self.what, f"{self.done:,}", f"{self.total:,}", self.unit, note)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self.rich:
            self.rich.stop()


@contextmanager
def bar(what: str, unit: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show a progress bar and close it at the end, also after an error."""
    shown = Bar(what, unit, total, done)
    try:
        yield shown
    finally:
        shown.close()


def _rich_bar():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
