"""A training's curves in MLflow while it runs."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.interrupts import Pruned
from pipeline_lib.recipe import Recipe
from pipeline_lib.tracking.circumstances import circumstances
from pipeline_lib.tracking.meter import IMPORTING, Meter, records

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline_lib.tracking.runs import Tracker
    from pipeline_lib.training.loop import Watch

log = logging.getLogger("tunesmith")
PAUSE = 1.0
"""Seconds between two deliveries, so that records go in batches."""


class LiveRun:
    """Shows a training in MLflow as it goes, from a thread of its own: training waits for nothing.

    `work` is a folder that outlives a kill; `judge` answers in its place.
    """

    def __init__(self, recipe: Recipe, fingerprint: str, by: str, work: Path, judge: "Watch | None" = None):
        self.recipe, self.fingerprint, self.by = recipe, fingerprint, by
        self.judge = judge
        self.circumstances, self.meter = circumstances(recipe), Meter(work / "measured.jsonl")
        self.records: queue.Queue[Sequence[dict[str, Any]] | None] = queue.Queue()
        self.settled: str | None = None
        """How the run ends here: FAILED, KILLED, or None where what it made is still to be delivered."""
        self.pruned: str | None = None
        """Why it was ended early."""
        self.begun = threading.Event()
        """Set by the first record: importing MLflow takes seconds, and would hold up the imports of the training."""
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> "LiveRun":
        self.thread.start()
        return self

    def __call__(self, records: Sequence[dict[str, Any]]) -> str | None:
        """Take new records of the history; the judge's answer."""
        self.meter.count(records)
        self.records.put(list(records))
        self.begun.set()
        return self.judge(records) if self.judge else None

    def facts(self) -> dict[str, Any]:
        """What the manifest keeps of this training, so that MLflow can be told later."""
        return self.circumstances | {"measured": self.meter.totals()}

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Pruned):
            self.settled, self.pruned = "KILLED", str(error)
        elif kind is not None:  # Ctrl-C, SIGTERM and an orchestrator's cancellation are no Exceptions
            self.settled = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self.meter.finish()
        self.records.put(None)
        self.begun.set()
        self.thread.join(timeout=60)

    def _work(self) -> None:
        self.begun.wait()
        try:
            with IMPORTING:
                from pipeline_lib.tracking.describe import describe
                from pipeline_lib.tracking.runs import PARENT, PRUNED, Tracker

            tracker = Tracker(self.recipe, self.by)
            run = tracker.run("training", self.fingerprint)
            tracker.reopen(run)
            describe(tracker, run, self.circumstances)
            self._send(tracker, run)
            if self.settled:
                for run_id in (run.info.run_id, run.data.tags[PARENT]):
                    if self.pruned:
                        tracker.client.set_tag(run_id, PRUNED, self.pruned)
                    tracker.finish(run_id, self.settled)
        except Exception as error:  # whatever MLflow's trouble is, it must not end a training
            log.warning("MLflow does not answer (%s): training goes on, its curves are delivered at the end", error)

    def _send(self, tracker: "Tracker", run: "Run") -> None:
        history: list[dict[str, Any]] = []
        going, measured = True, 0
        while going:
            waiting = [self.records.get(), *(self.records.get() for _ in range(self.records.qsize()))]
            going = waiting[-1] is not None
            history.extend(record for records in waiting if records for record in records)
            tracker.add_history(run, history)
            windows = self.meter.windows[measured:]
            tracker.add(run, records(windows))
            measured += len(windows)
            time.sleep(PAUSE if going else 0)
