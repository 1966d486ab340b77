"""Handle requests to stop: a training finishes its current step and saves a checkpoint before it ends.

Python delivers signals to the main thread only. `ask_trainings_to_stop` stops trainings in other threads.
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
    """A training was stopped early, with a checkpoint, because it was not promising; the message says why."""


StopCheck = Callable[[Sequence[dict[str, Any]]], str | None]
"""Takes new records of a training's history; returns a reason to stop early, or None to continue."""


class Stopped(BaseException):
    """A training outside the main thread was asked to stop; signals cannot reach it there."""


_stop_requested = threading.Event()


def ask_trainings_to_stop() -> None:
    """Stop all trainings of this process, in any thread, with a checkpoint after their current step."""
    _stop_requested.set()


def allow_trainings() -> None:
    """Undo `ask_trainings_to_stop`, so that the process can train again."""
    _stop_requested.clear()


class Interrupts:
    """Context manager that defers Ctrl-C and SIGTERM until `deliver` is called or the block ends.

    A second Ctrl-C is delivered immediately. A second SIGTERM is not: the orchestrator, its worker and the container
    runtime may each send one.
    """

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.signal: int | None = None

    @property
    def received_signal(self) -> int | None:
        """The deferred signal; SIGTERM if the trainings of this process were asked to stop."""
        if self.signal is None and _stop_requested.is_set():
            return signal.SIGTERM
        return self.signal

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            # a signal that the parent process ignores (`nohup`, a background job) stays ignored
            handled = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
            self.before = {number: signal.signal(number, self._defer) or signal.SIG_DFL for number in handled}
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None and self.received_signal is not None:
            self.deliver()
        self._restore()

    def deliver(self, otherwise: int | None = None) -> None:
        """Restore the previous handlers and raise the deferred signal again.

        `otherwise` is the signal to raise if none was received, because another process of the training was asked.
        """
        self._restore()
        number = self.received_signal or otherwise
        self.signal = None
        if number is None:
            return
        if threading.current_thread() is not threading.main_thread():
            raise Stopped
        signal.raise_signal(number)

    def _defer(self, number: int, frame: FrameType | None) -> None:
        is_second_interrupt = number == signal.SIGINT and self.signal is not None
        self.signal = number
        if is_second_interrupt:
            self.deliver()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that open resources are closed before the process exits."""
    is_main_thread = threading.current_thread() is threading.main_thread()
    # an orchestrator that has its own handler keeps it
    if not is_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # the exit status that shells report for a signal


def end_with_parent(number: int) -> None:
    """Ask the Linux kernel to send this process a signal when its parent dies, even if the parent is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
