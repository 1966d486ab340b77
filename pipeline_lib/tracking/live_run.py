"""Log a training's curves to MLflow while it runs."""

import contextvars
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import ServiceUnavailable
from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.tracking import availability
from pipeline_lib.tracking.environment import environment
from pipeline_lib.tracking.record_queue import RecordQueue
from pipeline_lib.tracking.run_note import MEASURED, RECORDS, RunNote, remove_note
from pipeline_lib.tracking.throughput import IMPORTING, ThroughputMeter
from pipeline_lib.util.redaction import first_line
from pipeline_lib.util.signals import Judge, Pruned

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline_lib.tracking.training_delivery import TrainingDelivery

log = logging.getLogger("tunesmith")
PAUSE = 1.0
"""Seconds between two deliveries, so that records go in batches."""
LONGEST_PAUSE = 10.0
"""Most seconds between two attempts during an outage; the first ones follow each other more quickly."""
FAREWELL = 60.0
"""Most seconds that a training which has ended waits for its last delivery."""


class LiveRun:
    """Log a training to MLflow from a separate thread, so that the training never waits for it.

    During an outage, records wait in a file in `work`, a folder that survives a kill, and the thread retries as long as
    the training runs. Records that cannot be delivered before the process ends are delivered by a later run (see
    `left_runs.py`), just as this thread delivers those of earlier runs. `judge` decides whether to stop early.
    """

    def __init__(self, recipe: Recipe, fingerprint: str, made_by: str, work: Path, judge: Judge | None = None):
        self.recipe, self.fingerprint, self.made_by = recipe, fingerprint, made_by
        self.judge = judge
        self.circumstances, self.meter = environment(recipe), ThroughputMeter(work / MEASURED)
        self.queue, self.work = RecordQueue(work / RECORDS), work
        self.note = RunNote.from_recipe(recipe, fingerprint, made_by, self.circumstances)
        self.settled: str | None = None
        """How the run ends here: FAILED, KILLED, or None where what it made is still to be delivered."""
        self.pruned: str | None = None
        """Why it was ended early."""
        self.begun = threading.Event()
        """Set after the first step: importing MLflow takes seconds, and would hold up what leads to that step."""
        self.ended, self.given_up = threading.Event(), threading.Event()
        self.connected: TrainingDelivery | None = None
        self.page: str | None = None
        """The training run's page, once a server has one."""
        self.helped = False
        """Whether the runs that others have left open were looked for."""
        self.away_since: float | None = None
        inside = contextvars.copy_context()  # by which Prefect knows whose log lines these are
        self.thread = threading.Thread(target=inside.run, args=(self._work,), name="mlflow", daemon=True)

    def __enter__(self) -> "LiveRun":
        _wait_a_little(self.recipe)
        self.note.begin(self.work)
        self.thread.start()
        return self

    def __call__(self, records: Sequence[dict[str, Any]], steps: int) -> str | None:
        """Take new records of the history; the judge's answer."""
        self.meter.count(records)
        self.queue.append(records)
        if self.meter.is_running:
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
        self._note_end()
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
                self._help()
                pause = PAUSE
            except Exception as error:  # whatever MLflow's trouble is, it must not end a training
                self.connected = None  # an attempt may have been half accepted: MLflow is asked what it has
                if not (isinstance(error, ServiceUnavailable) or availability.is_outage(error)):
                    log.warning("%-11s MLflow rejects the request (%s): no live curves", "finetune", first_line(error))
                    return
                self._tell_outage(error)
                pause = min(2 * pause, LONGEST_PAUSE)
            if last or self.given_up.is_set():
                return
            self.ended.wait(pause)

    def _deliver(self, last: bool) -> None:
        """Bring MLflow everything that waits; the state too, if the training has ended."""
        if reason := availability.why_unreachable(
            tracking_uri(self.recipe.execution)
        ):  # its client would try for minutes
            raise ServiceUnavailable("execution.tracking_uri", None, reason, "Start it")
        delivery = self.connected or self._connect()
        self._tell_return()
        delivery.send(self.given_up.is_set)
        self.connected = delivery
        if last and self.settled:
            delivery.settle(self.settled, self.pruned, self.note.ended_at)
            remove_note(self.work)

    def _connect(self) -> "TrainingDelivery":
        with IMPORTING:
            from pipeline_lib.tracking.runs import Tracker
            from pipeline_lib.tracking.training_delivery import TrainingDelivery

        tracker = Tracker(self.recipe, self.made_by)
        delivery = TrainingDelivery(tracker, self.fingerprint, self.circumstances, self.queue, self.meter.windows)
        self._tell_page(delivery.run)
        return delivery

    def _help(self) -> None:
        """Settle what others have left open, once, now that MLflow answers; what ends must not wait for it."""
        if not self.helped and not self.ended.is_set():
            with IMPORTING:
                from pipeline_lib.tracking.left_runs import settle_left_runs

            self.helped = True
            settle_left_runs(self.recipe, complete=False, stopped=self.ended.is_set)

    def _note_end(self) -> None:
        """Keep on disk how the training ended: MLflow may be away until this process is gone."""
        if self.settled:
            self.note.status, self.note.pruned = self.settled, self.pruned
            self.note.ended_at = int(time.time() * 1000)
            with suppress(OSError):  # a full disk must not take the place of the error that ends the training
                self.note.write(self.work)

    def _tell_page(self, run: "Run") -> None:
        """Log where to follow the training, once; a database has no pages."""
        from pipeline_lib.tracking.experiment import run_page

        if self.page is None and (page := run_page(self.recipe, run)).startswith("http"):
            self.page = page
            log.info("%-11s follow it in MLflow: %s", "finetune", page)

    def _tell_outage(self, error: Exception) -> None:
        """Log the beginning of an outage, once."""
        if self.away_since is None:
            self.away_since = time.monotonic()
            reason = error.problem if isinstance(error, ServiceUnavailable) else first_line(error)
            log.warning(
                "%-11s MLflow does not answer (%s): training continues, curves will be sent later", "finetune", reason
            )

    def _tell_return(self) -> None:
        """Log the end of an outage, once."""
        if self.away_since is not None:
            seconds, self.away_since = time.monotonic() - self.away_since, None
            waiting = self.queue.length - self.queue.taken
            log.info("%-11s MLflow is back after %.0f s: delivering %d records", "finetune", seconds, waiting)


def _wait_a_little(recipe: Recipe) -> None:
    """Wait for MLflow before a training starts; if it stays down, `when_mlflow_is_down` decides whether to train."""
    uri = tracking_uri(recipe.execution)
    if not (reason := availability.why_unreachable(uri)):
        return
    log.warning("%-11s MLflow does not answer (%s): waiting up to %.0f s", "finetune", reason, availability.WAIT)
    try:
        availability.wait_for_mlflow(recipe.execution, availability.WAIT)
    except ServiceUnavailable:
        if recipe.execution.when_mlflow_is_down == "fail":
            raise
