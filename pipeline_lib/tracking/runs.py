"""Runs in MLflow, identified by the fingerprint of their artifact so that a rerun continues the same run."""

import getpass
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_USER

from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.tracking.client import connect_mlflow
from pipeline_lib.tracking.experiment import open_experiment
from pipeline_lib.tracking.process_marks import own_mark

FINGERPRINT, KIND, DELIVERED = "tunesmith.fingerprint", "tunesmith.kind", "tunesmith.delivered_records"
PARENT_OF, PARENT = "tunesmith.parent_of", "mlflow.parentRunId"
MODEL, TRAINING = "tunesmith.model", "tunesmith.training_run"
BY, HOST, PROCESS = "tunesmith.by", "tunesmith.host", "tunesmith.process"
PRUNED = "tunesmith.pruned"
"""Why a sweep has ended a training early."""
BATCH = 1000
"""Most metrics that MLflow takes in one call."""


class Tracker:
    """Client for one experiment in one MLflow."""

    def __init__(self, recipe: Recipe, made_by: str):
        self.recipe, self.made_by = recipe, made_by
        self.had: dict[tuple[str, str], set[int]] = {}
        self.client = connect_mlflow(tracking_uri(recipe.execution))
        self.experiment = open_experiment(self.client, recipe.execution.experiment, recipe.objective.main_metric)

    def find_or_start_run(self, kind: str, fingerprint: str, parent: str | None = None) -> Run:
        """Return the run of an artifact: the existing one, or a new one inside `parent` (or inside a new parent)."""
        return self._find_or_start(
            FINGERPRINT, fingerprint, lambda: self._start(kind, fingerprint, parent or self._parent(fingerprint))
        )

    def _find_or_start(self, tag: str, value: str, start: Callable[[], Run]) -> Run:
        """Return the only run with a tag, starting it if there is none.

        Another machine may start one at the same time, and MLflow has no locks: both use the older run, and the process
        that started the newer one deletes it.
        """
        if found := self._find_tagged(tag, value):
            return found
        started = start()
        oldest = self._find_tagged(tag, value) or started
        if oldest.info.run_id != started.info.run_id:
            self.client.delete_run(started.info.run_id)
        return oldest

    def find_run(self, fingerprint: str) -> Run | None:
        """Return the run of an artifact; None if there is none."""
        return self._find_tagged(FINGERPRINT, fingerprint)

    def find_or_start_single_run(self, kind: str, fingerprint: str, name: str) -> Run:
        """Return the run of an artifact without a training and a parent run: the existing one, or a new one."""
        tags = {FINGERPRINT: fingerprint, KIND: kind, **self._holder()}
        return self._find_or_start(
            FINGERPRINT, fingerprint, lambda: self.client.create_run(self.experiment, run_name=name, tags=tags)
        )

    def _find_tagged(self, tag: str, value: str) -> Run | None:
        """Return the oldest run with a tag."""
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        found = self.client.search_runs([self.experiment], f"tags.`{tag}` = '{value}'", max_results=1, order_by=order)
        return found[0] if found else None

    def _parent(self, fingerprint: str) -> str:
        """Return the parent for an artifact's run: one left without a child by a kill, or a new one."""
        tags = {PARENT_OF: fingerprint, **self._holder()}
        parent = self._find_or_start(
            PARENT_OF,
            fingerprint,
            lambda: self.client.create_run(self.experiment, run_name=self.recipe.name, tags=tags),
        )
        return str(parent.info.run_id)

    def _start(self, kind: str, fingerprint: str, parent: str) -> Run:
        tags = {FINGERPRINT: fingerprint, KIND: kind, PARENT: parent, **self._holder()}
        return self.client.create_run(self.experiment, run_name=f"{self.recipe.name} {kind}", tags=tags)

    def _holder(self) -> dict[str, str]:
        """Return tags that identify this process, by which `tunesmith audit` detects that it is gone."""
        return {BY: self.made_by, HOST: platform.node(), PROCESS: own_mark(), MLFLOW_USER: user()}

    def add_history(self, run: Run, records: Sequence[dict[str, Any]]) -> None:
        """Log the records of a history that the run lacks; a tag has the number of logged records."""
        done = int(self.client.get_run(run.info.run_id).data.tags.get(DELIVERED, 0))
        for begin in range(done, len(records), BATCH):
            part = records[begin : begin + BATCH]
            self._add(run, part, [RunTag(DELIVERED, str(begin + len(part)))])

    def add_counted(self, run: Run, records: Sequence[dict[str, Any]], count: int) -> None:
        """Log one batch of a history's records, with which the run has the first `count` of them."""
        self._add(run, records, [RunTag(DELIVERED, str(count))])

    def add(self, run: Run, records: Sequence[dict[str, Any]]) -> None:
        """Log records that the run does not have yet, metric by metric and step by step."""
        for begin in range(0, len(records), BATCH):
            self._add(run, records[begin : begin + BATCH])

    def _add(self, run: Run, records: Sequence[dict[str, Any]], tags: Sequence[RunTag] = ()) -> None:
        if not self._holds(run.info.run_id):
            return
        now = int(time.time() * 1000)
        new: dict[tuple[str, int], Metric] = {}  # two windows of the meter end at one step where a kill lies between
        for record in records:
            name, step = f"{record['split']}/{record['metric']}", record["step"]
            if step not in self._had(run.info.run_id, name):
                if record["value"] is None or not math.isfinite(record["value"]):
                    continue  # undefined after this epoch: the curve has a gap
                new.setdefault((name, step), Metric(name, record["value"], record.get("at", now), step))
        self.client.log_batch(run.info.run_id, list(new.values()), tags=tags)
        for name, step in new:
            self.had[run.info.run_id, name].add(step)

    def _holds(self, run_id: str) -> bool:
        """Return whether this process still holds the run; another machine may have continued it."""
        tags = self.client.get_run(run_id).data.tags
        mine = self._holder()
        return (tags.get(HOST), tags.get(PROCESS)) == (mine[HOST], mine[PROCESS])

    def _had(self, run_id: str, metric: str) -> set[int]:
        """Return the steps of a metric that MLflow already has.

        MLflow stores a batch's metrics before its tags, so a kill can leave metrics that the count in the tag does not
        include. The batch may be resent in smaller parts, so every step is compared.
        """
        if (run_id, metric) not in self.had:
            self.had[run_id, metric] = {known.step for known in self.client.get_metric_history(run_id, metric)}
        return self.had[run_id, metric]

    def reopen(self, run: Run) -> None:
        """Continue a run that was ended by a kill or an error, and its parent."""
        tags = [RunTag(name, value) for name, value in self._holder().items()]
        for run_id in (run.info.run_id, run.data.tags[PARENT]):
            known = self.client.get_run(run_id)
            if known.info.status != "RUNNING":
                self.client.update_run(run_id, status="RUNNING")
            if PRUNED in known.data.tags:
                self.client.delete_tag(run_id, PRUNED)
            self.client.log_batch(run_id, tags=tags)

    def finish(self, run_id: str, status: str = "FINISHED", ended_at: int | None = None) -> None:
        """End a run with a status unless it already has it; `ended_at` is in milliseconds, default: now."""
        if self.client.get_run(run_id).info.status != status:
            self.client.set_terminated(run_id, status, ended_at)


def creation_time(artifact: Artifact) -> int:
    """Return the creation time of an artifact in milliseconds since 1970, as MLflow expects."""
    return int(datetime.fromisoformat(artifact.made["at"]).timestamp() * 1000)


def log_params(tracker: Tracker, run_id: str, facts: Mapping[str, Any]) -> None:
    """Log parameters that the run lacks, for example after a kill; MLflow rejects changes of existing ones."""
    known = tracker.client.get_run(run_id).data.params
    params = [Param(name, str(value)[:6000]) for name, value in facts.items() if name not in known]
    for begin in range(0, len(params), 100):  # as many as MLflow takes in one call
        tracker.client.log_batch(run_id, params=params[begin : begin + 100])


def user() -> str:
    """Return the account's name; in a container, the account may be a number without a name."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return f"user {os.getuid()}"
