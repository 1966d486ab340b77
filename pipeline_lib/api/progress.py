"""Progress of a run started from Python: a live display in a notebook, otherwise log lines on stderr."""

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from pipeline_lib.util.log_lines import StderrHandler

if TYPE_CHECKING:
    from pipeline_lib.training.progress import ProgressSnapshot

LINES = 30
"""Log lines that a notebook shows: the training adds one every 15 seconds."""


@contextmanager
def show_progress() -> "Iterator[Callable[[ProgressSnapshot], None] | None]":
    """Show the log lines of a run inside a `with` block.

    Yields:
        A function to call with the state of the training; None if the log lines are enough.
    """
    log = logging.getLogger("tunesmith")
    if log.handlers or (
        log.isEnabledFor(logging.INFO) and log.hasHandlers()
    ):  # the caller's logging already shows the lines
        yield None
        return
    display = NotebookDisplay() if is_in_notebook() else None
    handler = display or StderrHandler()
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # otherwise a root handler would print warnings twice
    try:
        yield display.show if display else None
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
        if display:
            display.finish()


def is_in_notebook() -> bool:
    """Return whether this runs in a Jupyter kernel; IPython in a terminal shows log lines like any other terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


class NotebookDisplay(logging.Handler):
    """The last log lines and a progress bar, as one output of the cell that is updated in place."""

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        super().__init__()
        self.lines: deque[str] = deque(maxlen=LINES)
        self.snapshot: ProgressSnapshot | None = None
        self.output: Any = DisplayHandle()  # `handle` is a method of logging.Handler
        self.output.display(self._html(), raw=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a log line."""
        self.lines.append(self.format(record))
        self._update()

    def show(self, snapshot: "ProgressSnapshot") -> None:
        """Show the state of the training."""
        self.snapshot = snapshot if snapshot.step < snapshot.steps else None
        self._update()

    def finish(self) -> None:
        """Remove the progress bar, which is still shown if the training failed."""
        self.snapshot = None
        self._update()

    def _update(self) -> None:
        self.output.update(self._html(), raw=True)

    def _html(self) -> dict[str, str]:
        text = "\n".join(self.lines)
        html = f"<pre>{escape(text)}</pre>"
        if self.snapshot:
            facts = escape(", ".join(self.snapshot.facts()))
            html += f'<progress value="{self.snapshot.percent:.1f}" max="100"></progress> <code>{facts}</code>'
        return {"text/plain": text, "text/html": html}
