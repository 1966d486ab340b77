"""Forward what the processes of a training report to the run that launched it: records, log lines, failures."""

import contextvars
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline_lib.training.distributed.failures import Failure, first_cause, process_name
from pipeline_lib.training.distributed.messages import GIVEN_UP, connect_store, receive, send
from pipeline_lib.training.loop import Watch

if TYPE_CHECKING:
    from torch.distributed import TCPStore

log = logging.getLogger("tunesmith")
FOREVER = timedelta(days=10_000)


class Forwarder:
    """Takes the messages of a training.

    After a restart the history is sent again from its beginning; records that were already forwarded are skipped by
    their position, as a repeated step gives the same ones (apart from rounding if memory ran out).
    """

    def __init__(self, watch: Watch):
        self.watch = watch
        self.attempt = 0
        self.failures: list[Failure] = []
        """Of the current attempt, in the order of their reports."""
        self.error: Exception | None = None
        """The error of the watch, which ends the training."""
        self.has_watched = False
        """Whether the watch was called; its first call has the records of before, if there are any."""
        self.offered, self.forwarded = 0, 0
        """Records that the current attempt sent; records that were forwarded."""
        self.said: set[tuple[str, str]] = set()
        """Logger and line of each warning that was logged."""
        self.held: dict[tuple[str, str], dict[str, Any]] = {}
        """Warnings of other ranks, until it is known that rank 0 does not give the same ones."""

    @contextmanager
    def forward_messages(self, store: "TCPStore", endpoint: str) -> Iterator[None]:
        """Forward messages in a thread; at the end wait until all are forwarded."""
        queue = connect_store(endpoint)  # of its own, as a connection answers one request at a time
        queue.set_timeout(FOREVER)
        context = contextvars.copy_context()  # Prefect uses it to assign log lines to a run
        thread = threading.Thread(target=context.run, args=(self._work, queue, store), name="ranks", daemon=True)
        thread.start()
        try:
            yield
        finally:
            send(store, "end")
            thread.join()

    def _work(self, queue: "TCPStore", store: "TCPStore") -> None:
        while (message := receive(queue))["kind"] != "end":
            try:
                self.take(message)
            except Exception as error:  # of the watch: a full disk, for example
                self.error = self.error or error
                store.set(GIVEN_UP, "")
        self._log_held()

    def take(self, message: dict[str, Any]) -> None:
        """Forward or keep a message."""
        kind = message["kind"]
        if kind == "records":
            self._forward(message["records"], message["steps"])
        elif kind == "log":
            self._log(message)
        elif kind == "attempt":
            self._begin(message["step"])
        elif kind == "error":
            self.failures.append(Failure(message["who"], message["error"], message["recurs"]))
        elif kind == "exit":
            self.failures.append(Failure(message["who"], exit_code=message["code"]))

    def first_error(self) -> Exception:
        """Return the error that ended the training."""
        if self.error:
            return self.error
        if not self.failures:
            return RuntimeError("another machine ended the training; run again to continue from its last checkpoint")
        return first_cause(self.failures).rebuild()

    def _begin(self, step: int) -> None:
        """Note that all processes have started and continue from this step."""
        if self.failures and self.attempt == 0:  # the first attempt failed before it came this far
            self.attempt = 1
        self.attempt += 1
        if self.attempt > 1:
            cause = first_cause(self.failures) if self.failures else "a machine was lost or joined"
            log.warning("%-11s %s: attempt %d continues from step %d", "finetune", cause, self.attempt, step)
        self.failures.clear()
        self.offered = 0

    def _forward(self, records: list[dict[str, Any]], steps: int) -> None:
        new = records[max(0, self.forwarded - self.offered) :]
        self.offered += len(records)
        self.forwarded = max(self.forwarded, self.offered)
        self._log_held()
        if new or not self.has_watched:
            self.has_watched = True
            self.watch(new, steps)

    def _log(self, message: dict[str, Any]) -> None:
        key = (message["logger"], message["line"])
        if message["rank"]:
            self.held.setdefault(key, message)
            return
        self.said.add(key)
        logging.getLogger(message["logger"]).log(message["level"], "%s", message["line"])

    def _log_held(self) -> None:
        """Log each warning of the other ranks once, unless rank 0 gave it too."""
        for key, message in self.held.items():
            if key not in self.said:
                self.said.add(key)
                line = f"{process_name(message['rank'])}: {message['line']}"
                logging.getLogger(message["logger"]).log(message["level"], "%s", line)
        self.held.clear()
