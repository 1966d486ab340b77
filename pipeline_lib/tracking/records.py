"""The records of trainings in MLflow as plain values, for `tunesmith audit` and `tunesmith reproduce`."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mlflow.entities import LoggedModelStatus, Run
from mlflow.tracking import MlflowClient

from pipeline_lib.errors import RecipeError
from pipeline_lib.tracking.data_files import CONTEXT, DataFile
from pipeline_lib.tracking.run_metadata import CIRCUMSTANCES, GIVEN, MANIFESTS, RECIPE
from pipeline_lib.tracking.runs import MODEL
from pipeline_lib.util.temporary import temporary_folder


class TrainingRecord(NamedTuple):
    """One run."""

    id: str
    name: str
    status: str
    began: str
    experiment: str
    tags: dict[str, str]
    metrics: dict[str, float]


@dataclass
class TrainingRecords:
    """A training run with its parent runs and its evaluations, the newest last."""

    client: MlflowClient
    training: TrainingRecord
    parents: list[TrainingRecord]
    evaluations: list[TrainingRecord]
    listed: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """Paths of artifacts, by run and folder."""
    evaluated: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Manifests of evaluations, by run."""

    @property
    def runs(self) -> list[TrainingRecord]:
        """All runs of the training."""
        return [*self.parents, self.training, *self.evaluations]

    @property
    def model(self) -> str | None:
        """The model's models:/ address."""
        return self.training.tags.get(MODEL)

    @cached_property
    def versions(self) -> list[str]:
        """The model's registered versions."""
        found = self.client.search_model_versions(f"run_id = '{self.training.id}'")
        return [f"{version.name} version {version.version}" for version in found]

    def pending_models(self) -> list[str]:
        """Return the ids of the training's models whose logging is incomplete, as MLflow has them now."""
        of = f"source_run_id = '{self.training.id}'"
        found = self.client.search_logged_models([self.training.experiment], of)
        return [model.model_id for model in found if model.status == LoggedModelStatus.PENDING]

    @cached_property
    def recipe(self) -> dict[str, Any] | None:
        """The recipe as resolved."""
        text = self.text(self.training, RECIPE)
        return None if text is None else yaml.safe_load(text)

    @cached_property
    def given(self) -> dict[str, Any] | None:
        """The recipe's file and the overrides."""
        return self.json(self.training, f"{GIVEN}/how.json")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The code's commit, machine and software."""
        return self.json(self.training, CIRCUMSTANCES) or {}

    @cached_property
    def manifests(self) -> dict[str, Any]:
        """The manifests by step; `shards` is a list."""
        return self.json(self.training, MANIFESTS) or {}

    def evaluation_manifests(self, run: TrainingRecord) -> dict[str, Any]:
        """Return the manifests of an evaluation and of inputs that only it reads, by step; empty until it is logged."""
        if run.id not in self.evaluated:
            manifest = self.json(run, "manifest.json")
            self.evaluated[run.id] = (self.json(run, MANIFESTS) or {}) | ({"evaluate": manifest} if manifest else {})
        return self.evaluated[run.id]

    @cached_property
    def data(self) -> list[DataFile]:
        """The files that were read."""
        inputs = self.client.get_run(self.training.id).inputs
        return [
            DataFile(
                next((tag.value for tag in item.tags if tag.key == CONTEXT), ""),
                json.loads(item.dataset.source)["uri"],
                item.dataset.digest,
                json.loads(item.dataset.profile or "{}").get("bytes"),
            )
            for item in (inputs.dataset_inputs if inputs else ())
        ]

    def json(self, run: TrainingRecord, path: str) -> Any:
        """Return a JSON artifact of a run; None if it does not exist."""
        text = self.text(run, path)
        return None if text is None else json.loads(text)

    def text(self, run: TrainingRecord, path: str) -> str | None:
        """Return an artifact of a run as text; None if it does not exist. Raises RecipeError if it cannot be read."""
        if path not in self._list_artifacts(run, path.rpartition("/")[0]):
            return None
        with temporary_folder() as folder:
            try:
                return Path(self.client.download_artifacts(run.id, path, str(folder))).read_text(encoding="utf-8")
            except OSError as error:
                raise _unreadable(run, path, error) from error

    def _list_artifacts(self, run: TrainingRecord, folder: str) -> set[str]:
        """List the artifacts in a folder of a run; an unreadable folder raises an error."""
        key = (run.id, folder)
        if key not in self.listed:
            try:
                self.listed[key] = {file.path for file in self.client.list_artifacts(run.id, folder or None)}
            except OSError as error:
                raise _unreadable(run, folder or "its artifacts", error) from error
        return self.listed[key]


def _unreadable(run: TrainingRecord, what: str, error: OSError) -> RecipeError:
    hint = "Check that MLflow's artifact store answers, and that you have read permission"
    return RecipeError("RUN", run.id, f"MLflow cannot provide {what} ({error})", hint)


def training_record(run: Run) -> TrainingRecord:
    """Return a run as plain values."""
    began = datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds")
    info, data = run.info, run.data
    return TrainingRecord(info.run_id, info.run_name, info.status, began, info.experiment_id, data.tags, data.metrics)
