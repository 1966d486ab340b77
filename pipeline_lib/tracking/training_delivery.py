"""Send a training's records and final status from its work folder to its run in MLflow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline_lib.tracking.record_queue import RecordQueue
from pipeline_lib.tracking.run_metadata import log_metadata
from pipeline_lib.tracking.runs import BATCH, DELIVERED, PARENT, PRUNED, Tracker
from pipeline_lib.tracking.summary import end_summary
from pipeline_lib.tracking.throughput import records

ENDS = {
    "FAILED": "The training failed; a rerun, or *Retry* in Prefect, resumes from its last checkpoint.",
    "KILLED": "The training was stopped; a rerun, or *Retry* in Prefect, resumes from its last checkpoint.",
}
"""Status -> the description of a run whose training did not finish."""


class TrainingDelivery:
    """Sends a training's queued records to its run in MLflow, in order and each record once.

    Args:
        tracker: Client for the experiment.
        fingerprint: Fingerprint of the training.
        environment: Recipe, commit, machine and software of the training.
        queue: Records of the history; more may be added.
        windows: Windows of the throughput meter; more may be added.
    """

    def __init__(
        self,
        tracker: Tracker,
        fingerprint: str,
        environment: Mapping[str, Any],
        queue: RecordQueue,
        windows: Sequence[Mapping[str, Any]],
    ):
        self.tracker, self.queue, self.windows = tracker, queue, windows
        self.run = tracker.find_or_start_run("training", fingerprint)
        tracker.reopen(self.run)
        log_metadata(tracker, self.run, environment)
        self.delivered = int(tracker.client.get_run(self.run.info.run_id).data.tags.get(DELIVERED, 0))
        self.measured = 0
        queue.rewind()
        queue.skip_to(self.delivered)

    def send(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Send all queued records in batches; stop early if `stopped` returns True."""
        while waiting := self.queue.take(BATCH):
            if stopped():
                return
            self.tracker.add_counted(self.run, waiting, self.delivered + len(waiting))
            self.delivered += len(waiting)
        windows = self.windows[self.measured :]
        self.tracker.add(self.run, records(windows))
        self.measured += len(windows)

    def settle(self, status: str, pruned: str | None, ended_at: int | None) -> None:
        """Set the final status of the run and its parent; `pruned` is the reason if the training was stopped early."""
        for run_id in (self.run.info.run_id, self.run.data.tags[PARENT]):
            if pruned:
                self.tracker.client.set_tag(run_id, PRUNED, pruned)
            self.tracker.finish(run_id, status, ended_at)
        if status in ENDS:
            end_summary(self.tracker, self.run, ENDS[status] if pruned is None else f"Stopped early: {pruned}.")
