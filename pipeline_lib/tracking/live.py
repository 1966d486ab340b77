"""A training's curves in MLflow while it runs."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline_lib.recipe import Recipe

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline_lib.tracking.runs import Tracker

log = logging.getLogger("tunesmith")
PAUSE = 1.0
"""Seconds between two deliveries, so that records go in batches."""


class LiveRun:
    """Shows a training's curves in MLflow as they grow, from a thread of its own: training waits for nothing."""

    def __init__(self, recipe: Recipe, fingerprint: str, by: str):
        self.recipe, self.fingerprint, self.by = recipe, fingerprint, by
        self.records: queue.Queue[Sequence[dict[str, Any]] | None] = queue.Queue()
        self.settled: str | None = None
        """How the run ends here: FAILED, KILLED, or None where what it made is still to be delivered."""
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> "LiveRun":
        self.thread.start()
        return self

    def __call__(self, records: Sequence[dict[str, Any]]) -> None:
        """Take new records of the history."""
        self.records.put(list(records))

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is not None:  # Ctrl-C, SIGTERM and an orchestrator's cancellation are no Exceptions
            self.settled = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self.records.put(None)
        self.thread.join(timeout=60)

    def _work(self) -> None:
        try:
            from pipeline_lib.tracking.runs import Tracker  # importing MLflow takes seconds: not in training's way

            tracker = Tracker(self.recipe, self.by)
            run = tracker.run("training", self.fingerprint)
            tracker.reopen(run)
            self._send(tracker, run)
            if self.settled:
                tracker.finish(run.info.run_id, self.settled)
                tracker.finish(run.data.tags["mlflow.parentRunId"], self.settled)
        except Exception as error:  # whatever MLflow's trouble is, it must not end a training
            log.warning("MLflow does not answer (%s): training goes on, its curves are delivered at the end", error)

    def _send(self, tracker: "Tracker", run: "Run") -> None:
        history: list[dict[str, Any]] = []
        going = True
        while going:
            waiting = [self.records.get(), *(self.records.get() for _ in range(self.records.qsize()))]
            going = waiting[-1] is not None
            history.extend(record for records in waiting if records for record in records)
            tracker.add_history(run, history)
            time.sleep(PAUSE if going else 0)
