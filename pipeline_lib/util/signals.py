"""Being told to stop: a training ends at a step's end with a checkpoint, and whoever watches it hears of it.

Signals reach the main thread alone. A training in another thread is stopped by `ask_trainings_to_stop`.
"""

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # as in sys/prctl.h


class Pruned(Exception):
    """A training that was ended early, with a checkpoint, because it had no hope; the message says why."""


Judge = Callable[[Sequence[dict[str, Any]]], str | None]
"""Takes new records of a training's history; says why the training should end early, or None."""


class Stopped(BaseException):
    """A training in a thread was asked to stop; there no signal can say so."""


_asked = threading.Event()


def ask_trainings_to_stop() -> None:
    """Have every training of this process stop with a checkpoint after its current step, whatever thread it is in."""
    _asked.set()


def allow_trainings() -> None:
    """Take `ask_trainings_to_stop` back, for a new run in the same process."""
    _asked.clear()


class Interrupts:
    """While this lasts, Ctrl-C and SIGTERM wait until `deliver` is called or it ends. A second Ctrl-C waits no more.

    A second SIGTERM changes nothing: an orchestrator, its worker and a container's runtime may each send one.
    """

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.signal: int | None = None

    @property
    def received(self) -> int | None:
        """The signal that waits; SIGTERM where the trainings of this process were asked to stop."""
        if self.signal is None and _asked.is_set():
            return signal.SIGTERM
        return self.signal

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
        number = self.received
        self.signal = None
        if number is None:
            return
        if threading.current_thread() is not threading.main_thread():
            raise Stopped
        signal.raise_signal(number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        impatient = number == signal.SIGINT and self.signal is not None
        self.signal = number
        if impatient:
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
