"""End a process of a training that hangs: torch's launcher notices processes that die, but not ones that wait forever.

How long a pass, a validation batch or a checkpoint takes is measured as the training goes on; no limit has to be set.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore

ALIVE = "tunesmith/alive"
"""Key of a counter that each process increases while it is within its own limit."""
MULTIPLE = 10
"""A gap between two beats is too long if it is this many times the longest one so far."""
MINIMUM = 20.0
"""Seconds that a gap may always take."""
UNMEASURED = 1800.0
"""Seconds for what was not measured yet: loading a large model, compiling, the first checkpoint."""
INTERVAL = 1.0
GRACE = 5.0
"""Seconds without a sign of any process, after which one that is over its limit ends."""

_watchdog: "Watchdog | None" = None


def beat(doing: str = "training") -> None:
    """Note that this process made progress; no effect unless a watchdog was started.

    Args:
        doing: What comes next. Gaps are measured for each activity apart, and the first of each has a long limit: call
            `beat("checkpoint")` before writing a checkpoint, `beat("validation")` before each batch of a validation.
    """
    if _watchdog:
        _watchdog.beat(doing)


def start(store: "TCPStore", end: Callable[[float], None]) -> "Watchdog":
    """Start the watchdog of this process; it calls `end` with the seconds since the last beat if they are too many."""
    global _watchdog
    _watchdog = Watchdog(store, end)
    _watchdog.thread.start()
    return _watchdog


class Watchdog:
    """Compares the time since the last beat with the longest gap so far.

    A process over its limit may be waiting for one that is within its own, which writes a large checkpoint for example.
    So it ends only when no process has been within its limit for a few seconds. One that is stopped or whose machine
    is gone shows no sign either: its peers end, and their agents restart all.
    """

    def __init__(self, store: "TCPStore", end: Callable[[float], None]):
        self.store, self.end = store, end
        self.doing, self.at = "start", time.monotonic()
        self.longest: dict[str, float] = {}
        """Activity -> its longest gap in seconds."""
        self.seen, self.heard = -1, time.monotonic()
        """Value of the counter, and when it last changed."""
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name="watchdog", daemon=True)

    def beat(self, doing: str) -> None:
        """Measure the gap that ends here."""
        now = time.monotonic()
        self.longest[self.doing] = max(self.longest.get(self.doing, 0.0), now - self.at)
        self.doing, self.at = doing, now

    def stop(self) -> None:
        """Stop watching: the training is done."""
        self.stopping.set()

    def limit(self) -> float:
        """Return how many seconds the current activity may take."""
        longest = self.longest.get(self.doing)
        return UNMEASURED if longest is None else max(MINIMUM, MULTIPLE * longest)

    def _work(self) -> None:
        while not self.stopping.wait(INTERVAL):
            try:
                hanging = self.is_hanging()
            except RuntimeError:  # the launcher is gone, and its store with it
                hanging = not self.stopping.is_set()
            if hanging:
                self.end(time.monotonic() - self.at)

    def is_hanging(self) -> bool:
        """Return whether this process is over its limit and no other one is within its own."""
        now = time.monotonic()
        within = now - self.at < self.limit()
        count = self.store.add(ALIVE, int(within))
        if count != self.seen:
            self.seen, self.heard = count, now
        return now - self.heard > GRACE
