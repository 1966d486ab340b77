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
from pipeline_lib.util.signals import Pruned, StopCheck

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline_lib.tracking.training_delivery import TrainingDelivery

log = logging.getLogger("tunesmith")
DELIVERY_INTERVAL = 1.0
"""Seconds between two deliveries. Records are sent in batches."""
MAX_RETRY_INTERVAL = 10.0
"""Maximum seconds between two attempts during an outage; the interval doubles after each failure."""
FINAL_DELIVERY_TIMEOUT = 60.0
"""Maximum seconds that a finished training waits for its last delivery."""


class LiveRun:
    """Log a training to MLflow from a separate thread, so that the training never waits for it.

    During an outage, records are queued in a file in `work`, a folder that survives a kill, and the thread retries as
    long as the training runs. Records that cannot be delivered before the process ends are delivered by a later run
    (see `left_runs.py`), just as this thread delivers those of earlier runs. `stop_check` can stop the training early.
    """

    def __init__(self, recipe: Recipe, fingerprint: str, made_by: str, work: Path, stop_check: StopCheck | None = None):
        self.recipe, self.fingerprint, self.made_by = recipe, fingerprint, made_by
        self.stop_check = stop_check
        self.environment = environment(recipe)
        self.meter = ThroughputMeter(work / MEASURED)
        self.queue = RecordQueue(work / RECORDS)
        self.work = work
        self.note = RunNote.from_recipe(recipe, fingerprint, made_by, self.environment)
        self.final_status: str | None = None
        """FAILED or KILLED; None while the training runs and if it succeeded (publishing the model ends the run)."""
        self.stop_reason: str | None = None
        """Why the training was stopped early, if it was."""
        self.first_step_done = threading.Event()
        """Set after the first step. MLflow is imported only then, since the import would delay that step by seconds."""
        self.ended = threading.Event()
        self.abandoned = threading.Event()
        """Set when the training no longer waits for the thread, which then must stop sending."""
        self.connected: TrainingDelivery | None = None
        self.page: str | None = None
        """URL of the training run, once it exists on a server."""
        self.settled_left_runs = False
        """Whether runs that earlier processes left open have been ended."""
        self.outage_began: float | None = None
        context = contextvars.copy_context()  # Prefect uses it to assign log lines to a run
        self.thread = threading.Thread(target=context.run, args=(self._work,), name="mlflow", daemon=True)

    def __enter__(self) -> "LiveRun":
        _wait_for_mlflow(self.recipe)
        self.note.begin(self.work)
        self.thread.start()
        return self

    def __call__(self, records: Sequence[dict[str, Any]], steps: int) -> str | None:
        """Queue new records of the history; return a reason to stop early, or None."""
        self.meter.count(records)
        self.queue.append(records)
        if self.meter.is_running:
            self.first_step_done.set()
        return self.stop_check(records) if self.stop_check else None

    def facts(self) -> dict[str, Any]:
        """Return the facts that the manifest stores, so that they can be sent to MLflow at any time."""
        return self.environment | {"measured": self.meter.totals()}

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Pruned):
            self.final_status = "KILLED"
            self.stop_reason = str(error)
        elif kind is not None:  # Ctrl-C, SIGTERM and cancellation by an orchestrator are not subclasses of Exception
            self.final_status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._write_final_note()
        self.meter.finish()
        self.ended.set()
        self.first_step_done.set()
        self.thread.join(timeout=FINAL_DELIVERY_TIMEOUT)
        self.abandoned.set()  # the training is published next, and the thread must not write to the same run

    def _work(self) -> None:
        """Deliver until the training has ended; retry during an outage."""
        self.first_step_done.wait()
        pause = DELIVERY_INTERVAL
        while True:
            # read before delivering, so that everything queued before the end is delivered below
            last = self.ended.is_set()
            try:
                self._deliver(last)
                self._settle_left_runs()
                pause = DELIVERY_INTERVAL
            except Exception as error:  # no error of MLflow may end a training
                self.connected = None  # reconnect: MLflow may have stored part of the last batch
                if not (isinstance(error, ServiceUnavailable) or availability.is_outage(error)):
                    log.warning("%-11s MLflow rejects the request (%s): no live curves", "finetune", first_line(error))
                    return
                self._log_outage(error)
                pause = min(2 * pause, MAX_RETRY_INTERVAL)
            if last or self.abandoned.is_set():
                return
            self.ended.wait(pause)

    def _deliver(self, last: bool) -> None:
        """Send all queued records; if the training has ended, also its final status."""
        # MLflow's own client would retry for minutes before it raises an error
        reason = availability.why_unreachable(tracking_uri(self.recipe.execution))
        if reason:
            raise ServiceUnavailable("execution.tracking_uri", None, reason, "Start it")
        delivery = self.connected or self._connect()
        self._log_reconnected()
        delivery.send(self.abandoned.is_set)
        self.connected = delivery
        if last and self.final_status:
            delivery.settle(self.final_status, self.stop_reason, self.note.ended_at)
            remove_note(self.work)

    def _connect(self) -> "TrainingDelivery":
        with IMPORTING:
            from pipeline_lib.tracking.runs import Tracker
            from pipeline_lib.tracking.training_delivery import TrainingDelivery

        tracker = Tracker(self.recipe, self.made_by)
        delivery = TrainingDelivery(tracker, self.fingerprint, self.environment, self.queue, self.meter.windows)
        self._log_page(delivery.run)
        return delivery

    def _settle_left_runs(self) -> None:
        """End the runs that earlier processes left open, once, unless this training has already ended."""
        if not self.settled_left_runs and not self.ended.is_set():
            with IMPORTING:
                from pipeline_lib.tracking.left_runs import settle_left_runs

            self.settled_left_runs = True
            settle_left_runs(self.recipe, complete=False, stopped=self.ended.is_set)

    def _write_final_note(self) -> None:
        """Write the final status to disk, since MLflow may be unreachable until this process ends."""
        if self.final_status:
            self.note.status = self.final_status
            self.note.pruned = self.stop_reason
            self.note.ended_at = int(time.time() * 1000)
            with suppress(OSError):  # an error of a full disk must not replace the error that ended the training
                self.note.write(self.work)

    def _log_page(self, run: "Run") -> None:
        """Log the URL of the run once; a run in a database has none."""
        from pipeline_lib.tracking.experiment import run_page

        if self.page is None and (page := run_page(self.recipe, run)).startswith("http"):
            self.page = page
            log.info("%-11s follow it in MLflow: %s", "finetune", page)

    def _log_outage(self, error: Exception) -> None:
        """Log the beginning of an outage, once."""
        if self.outage_began is None:
            self.outage_began = time.monotonic()
            reason = error.problem if isinstance(error, ServiceUnavailable) else first_line(error)
            log.warning(
                "%-11s MLflow does not answer (%s): training continues, curves will be sent later", "finetune", reason
            )

    def _log_reconnected(self) -> None:
        """Log the end of an outage, once."""
        if self.outage_began is not None:
            seconds, self.outage_began = time.monotonic() - self.outage_began, None
            waiting = self.queue.length - self.queue.taken
            log.info("%-11s MLflow is back after %.0f s: delivering %d records", "finetune", seconds, waiting)


def _wait_for_mlflow(recipe: Recipe) -> None:
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
