"""A training's curves in MLflow while it runs."""

import contextvars
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import Unanswered
from pipeline_lib.execution import tracking_uri
from pipeline_lib.interrupts import Pruned
from pipeline_lib.masking import masked
from pipeline_lib.recipe import Recipe
from pipeline_lib.tracking import answering
from pipeline_lib.tracking.circumstances import circumstances
from pipeline_lib.tracking.meter import IMPORTING, Meter, records
from pipeline_lib.tracking.record_queue import RecordQueue

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline_lib.tracking.runs import Tracker
    from pipeline_lib.training.loop import Watch

log = logging.getLogger("tunesmith")
PAUSE = 1.0
"""Seconds between two deliveries, so that records go in batches."""
LONGEST_PAUSE = 10.0
"""Most seconds between two attempts during an outage; the first ones follow each other more quickly."""
FAREWELL = 60.0
"""Most seconds that a training which has ended waits for its last delivery."""


class LiveRun:
    """Shows a training in MLflow as it goes, from a thread of its own: training waits for nothing.

    The thread tries again for as long as the training runs; until then records wait in a file in `work`, a folder that
    outlives a kill. `judge` answers in place of this watch.
    """

    def __init__(self, recipe: Recipe, fingerprint: str, by: str, work: Path, judge: "Watch | None" = None):
        self.recipe, self.fingerprint, self.by = recipe, fingerprint, by
        self.judge = judge
        self.circumstances, self.meter = circumstances(recipe), Meter(work / "measured.jsonl")
        self.queue = RecordQueue(work / "records.jsonl")
        self.settled: str | None = None
        """How the run ends here: FAILED, KILLED, or None where what it made is still to be delivered."""
        self.pruned: str | None = None
        """Why it was ended early."""
        self.begun = threading.Event()
        """Set by the first record: importing MLflow takes seconds, and would hold up the imports of the training."""
        self.ended, self.given_up = threading.Event(), threading.Event()
        self.connected: tuple[Tracker, Run] | None = None
        self.away_since: float | None = None
        inside = contextvars.copy_context()  # by which Prefect knows whose log lines these are
        self.thread = threading.Thread(target=inside.run, args=(self._work,), name="mlflow", daemon=True)

    def __enter__(self) -> "LiveRun":
        _wait_a_little(self.recipe)
        self.thread.start()
        return self

    def __call__(self, records: Sequence[dict[str, Any]]) -> str | None:
        """Take new records of the history; the judge's answer."""
        self.meter.count(records)
        self.queue.append(records)
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
        self.ended.set()
        self.begun.set()
        self.thread.join(timeout=FAREWELL)
        self.given_up.set()  # what publishes the training must not meet a thread that does the same

    def _work(self) -> None:
        """Deliver until the training has ended; during an outage, try again and again."""
        self.begun.wait()
        pause = PAUSE
        while True:
            last = self.ended.is_set()  # asked first: what was queued before the end is delivered below
            try:
                self._deliver(last)
                pause = PAUSE
            except Exception as error:  # whatever MLflow's trouble is, it must not end a training
                self.connected = None  # an attempt may have been half accepted: MLflow is asked what it has
                if not (isinstance(error, Unanswered) or answering.is_outage(error)):
                    log.warning("MLflow refuses (%s): training goes on without live curves", masked(str(error))[:300])
                    return
                self._tell_outage(error)
                pause = min(2 * pause, LONGEST_PAUSE)
            if last or self.given_up.is_set():
                return
            self.ended.wait(pause)

    def _deliver(self, last: bool) -> None:
        """Bring MLflow everything that waits; the state too, if the training has ended."""
        if reason := answering.why_silent(tracking_uri(self.recipe.execution)):  # its client would try for minutes
            raise Unanswered("execution.tracking_uri", None, reason, "Start it")
        tracker, run = self.connected or self._connect()
        self._tell_return()
        self._send(tracker, run)
        self.connected = tracker, run
        if last and self.settled:
            self._settle(tracker, run, self.settled)

    def _connect(self) -> "tuple[Tracker, Run]":
        with IMPORTING:
            from pipeline_lib.tracking.describe import describe
            from pipeline_lib.tracking.runs import DELIVERED, Tracker

        tracker = Tracker(self.recipe, self.by)
        run = tracker.run("training", self.fingerprint)
        tracker.reopen(run)
        describe(tracker, run, self.circumstances)
        self.delivered = int(tracker.client.get_run(run.info.run_id).data.tags.get(DELIVERED, 0))
        self.measured = 0
        self.queue.rewind()
        self.queue.skip_to(self.delivered)
        return tracker, run

    def _send(self, tracker: "Tracker", run: "Run") -> None:
        from pipeline_lib.tracking.runs import BATCH

        while waiting := self.queue.take(BATCH):
            if self.given_up.is_set():
                return
            tracker.add_counted(run, waiting, self.delivered + len(waiting))
            self.delivered += len(waiting)
        windows = self.meter.windows[self.measured :]
        tracker.add(run, records(windows))
        self.measured += len(windows)

    def _settle(self, tracker: "Tracker", run: "Run", status: str) -> None:
        from pipeline_lib.tracking.runs import PARENT, PRUNED

        for run_id in (run.info.run_id, run.data.tags[PARENT]):
            if self.pruned:
                tracker.client.set_tag(run_id, PRUNED, self.pruned)
            tracker.finish(run_id, status)

    def _tell_outage(self, error: Exception) -> None:
        """Log the beginning of an outage, once."""
        if self.away_since is None:
            self.away_since = time.monotonic()
            reason = error.problem if isinstance(error, Unanswered) else masked(str(error)).partition("\n")[0][:300]
            log.warning("MLflow does not answer (%s): training goes on, its curves follow when it is back", reason)

    def _tell_return(self) -> None:
        """Log the end of an outage, once."""
        if self.away_since is not None:
            seconds, self.away_since = time.monotonic() - self.away_since, None
            waiting = self.queue.length - self.queue.taken
            log.info("MLflow is back after %.0f s: delivering %d records that waited", seconds, waiting)


def _wait_a_little(recipe: Recipe) -> None:
    """Give MLflow time to come back before a training begins; then train all the same, if the recipe says so."""
    uri = tracking_uri(recipe.execution)
    if not (reason := answering.why_silent(uri)):
        return
    log.warning("MLflow does not answer (%s): waiting up to %.0f s for it", reason, answering.WAIT)
    try:
        answering.wait_for_mlflow(recipe.execution, answering.WAIT)
    except Unanswered:
        if recipe.execution.when_mlflow_is_down == "fail":
            raise
