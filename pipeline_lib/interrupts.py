"""Being told to stop: a training ends at a step's end with a checkpoint, and whoever watches it hears of it.

Signals reach the main thread alone; in any other thread nothing here changes anything.
"""

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # as in sys/prctl.h


class Pruned(Exception):
    """A training that was ended early, with a checkpoint, because it had no hope; the message says why."""


class Interrupts:
    """While this lasts, Ctrl-C and SIGTERM wait until `deliver` is called or it ends. A second one waits no more."""

    received: int | None = None
    """The signal that waits."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
            self.before = {number: signal.signal(number, self._take) or signal.SIG_DFL for number in heeded}
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None and self.received is not None:
            self.deliver()
        self._restore()

    def deliver(self) -> None:
        """Do with the signal what would have been done with it without us."""
        self._restore()
        if self.received is not None:
            number, self.received = self.received, None
            signal.raise_signal(number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        waits, self.received = self.received is not None, number
        if waits:
            self.deliver()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM ends the process by an exception, so that what is open is settled, where it would end it at once."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # an orchestrator has a way of its own
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # as shells tell it


def end_with_parent(number: int) -> None:
    """Have Linux's kernel send this process a signal when its parent dies, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
