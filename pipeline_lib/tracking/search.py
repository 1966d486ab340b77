"""Find trainings in MLflow: all of an experiment, or the one that a run or a model belongs to."""

import re
from collections.abc import Sequence
from operator import attrgetter

from mlflow.exceptions import MlflowException

from pipeline_lib.errors import RecipeError
from pipeline_lib.tracking.client import connect_mlflow
from pipeline_lib.tracking.records import TrainingRecord, TrainingRecords, training_record
from pipeline_lib.tracking.runs import KIND, PARENT, TRAINING
from pipeline_lib.util.redaction import first_line, redact

MODEL_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>.+))?")

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's codes for what it does not have; the second one is for ids, names and aliases that it cannot know."""


class TrainingSearch:
    """Search one MLflow; methods raise RecipeError if there is no such run, model or experiment.

    If MLflow does not answer or rejects a request, its client's errors are passed on: see `describe_read_errors`.
    """

    def __init__(self, uri: str):
        self.uri, self.shown, self.client = uri, redact(uri), connect_mlflow(uri)

    def runs(self, experiment: str, of: str = "") -> list[TrainingRecord]:
        """Yield an experiment's runs that match a filter, oldest first."""
        found, token = [], None
        while True:
            page = self.client.search_runs([experiment], of, order_by=["attributes.start_time ASC"], page_token=token)
            found += [training_record(run) for run in page]
            if not (token := page.token):
                return found

    def status(self, run_id: str) -> str:
        """Return a run's current status."""
        return str(self.client.get_run(run_id).info.status)

    def experiment(self, name: str) -> str:
        """Return an experiment's id."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            hint = "Give the name in execution.experiment, and MLflow's address with --tracking-uri"
            raise RecipeError("--experiment", name, f"is not in {self.shown}", hint)
        return found.experiment_id

    def trainings(self, experiment: str) -> list[TrainingRecords]:
        """Yield every training of an experiment, oldest first."""
        runs = self.runs(self.experiment(experiment))
        return [self._select_records(run, runs) for run in runs if run.tags.get(KIND) == "training"]

    def find_training(self, target: str) -> TrainingRecords:
        """Return the training of a run (a training, its parent or an evaluation) or of a models:/ address."""
        try:
            run = training_record(self.client.get_run(self._run_of(target)))
            while run.tags.get(KIND) != "training":
                run = self._step_towards_training(run)
        except (MlflowException, LookupError) as error:
            if isinstance(error, MlflowException) and error.error_code not in ABSENT:
                raise
            problem = f"does not name a training in {self.shown} ({first_line(error, 200)})"
            hint = "`tunesmith audit` lists the runs; --tracking-uri selects the MLflow"
            raise RecipeError("RUN|MODEL", target, problem, hint) from None
        return self._load_records(run)

    def _step_towards_training(self, run: TrainingRecord) -> TrainingRecord:
        if TRAINING in run.tags:
            return training_record(self.client.get_run(run.tags[TRAINING]))
        inside = self.runs(run.experiment, f"tags.`{PARENT}` = '{run.id}'")
        leading = [child for child in inside if child.tags.get(KIND) == "training" or TRAINING in child.tags]
        if not leading:
            raise LookupError(f"{run.name} is not a training and contains none")
        return leading[0]

    def _run_of(self, target: str | None) -> str:
        """Return the run id, given directly or by a model (models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS)."""
        if target is None:
            raise LookupError("the model does not name its run")
        if not target.startswith("models:"):
            return target
        if not (found := MODEL_ADDRESS.fullmatch(target)):
            raise LookupError("write models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS")
        name, version, alias = found.groups()
        if version is None and alias is None:
            return self._run_of(self.client.get_logged_model(name).source_run_id)
        get, which = (
            (self.client.get_model_version, version) if version else (self.client.get_model_version_by_alias, alias)
        )
        registered = get(name, which)
        return registered.run_id or self._run_of(registered.source)

    def _load_records(self, training: TrainingRecord) -> TrainingRecords:
        """Return a training with its parent and evaluations, without listing the whole experiment."""
        mine = self.runs(training.experiment, f"tags.`{TRAINING}` = '{training.id}'")
        around = {parent for run in (training, *mine) if (parent := run.tags.get(PARENT))}
        parents = [run for run in map(self.client.get_run, around) if run.info.lifecycle_stage == "active"]
        return TrainingRecords(
            self.client, training, sorted(map(training_record, parents), key=attrgetter("began")), mine
        )

    def _select_records(self, training: TrainingRecord, runs: Sequence[TrainingRecord]) -> TrainingRecords:
        mine = [run for run in runs if run.tags.get(TRAINING) == training.id]
        around = {run.tags.get(PARENT) for run in (training, *mine)}
        return TrainingRecords(self.client, training, [run for run in runs if run.id in around], mine)
