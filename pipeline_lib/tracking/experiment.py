"""Open the MLflow experiment of a run, with the tags that make its page compare trainings.

By default MLflow's pages open in "GenAI" mode, which shows traces instead of models; links and the experiment's kind
select the other mode. Saved views and the default metric of charts are tags of the experiment, too.
"""

import json
import time
from typing import Any

from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME, MLFLOW_RUN_NOTE

from pipeline_lib.recipe.execution import mlflow_page
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.tracking.availability import deleted_experiment_error
from pipeline_lib.util.redaction import MODE

KIND_TAG, MACHINE_LEARNING = "mlflow.experimentKind", "custom_model_development"
"""Tag with the kind of an experiment. MLflow's UI reads it; its Python code has no name for it."""
VIEW_TAG = "mlflow.sharedViewState."
"""Prefix of the tag of a saved view, followed by the view's id. The UI lists such views in the menu "Views"."""
TRAINED_PARAMETERS, SECONDS, COST = "trained_parameters", "training_seconds", "training_cost"
"""Names of the cost metrics on the parent run."""
COLUMNS = ("strategy", "learning_rate", "epochs", "batch_size", "train_rows", TRAINED_PARAMETERS)
"""Parameters in the table of a saved view."""


def open_experiment(client: MlflowClient, name: str, main_metric: str) -> str:
    """Return the id of an experiment, creating it if necessary, with the tags that its page needs.

    Raises RecipeError if it was deleted.
    """
    experiment = client.get_experiment_by_name(name) or create_experiment(client, name)
    if experiment.lifecycle_stage == "deleted":
        raise deleted_experiment_error(name, experiment.experiment_id)
    experiment_id = str(experiment.experiment_id)
    for tag, value in _tags(experiment_id, main_metric).items():
        if tag not in experiment.tags:  # what people have changed stays as they want it
            client.set_experiment_tag(experiment_id, tag, value)
    return experiment_id


def view_address(experiment_id: str, main_metric: str) -> str:
    """Return the link to an experiment's charts, relative to MLflow's address."""
    chosen = f"compareRunsMode=CHART&viewStateShareKey={_view_id(main_metric)}"
    return f"#/experiments/{experiment_id}/runs?{MODE}&{chosen}"


def run_address(experiment_id: str, run_id: str, part: str = "") -> str:
    """Return the link to a run's page or a `part` of it, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}{part}?{MODE}"


def run_page(recipe: Recipe, run: Run) -> str:
    """Return the URL of a run's page; for a database, which has no pages, the run's id and the database."""
    uri = mlflow_page(recipe.execution)
    page = run_address(run.info.experiment_id, run.info.run_id)
    return f"{uri.rstrip('/')}/{page}" if uri.startswith("http") else f"{run.info.run_id} in {uri}"


def model_address(experiment_id: str, model: str) -> str:
    """Return the link to the page of a models:/ address, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/models/{model.removeprefix('models:/')}?{MODE}"


def create_experiment(client: MlflowClient, name: str) -> Experiment:
    """Create an experiment, or return the one that another process has created meanwhile."""
    try:
        return client.get_experiment(client.create_experiment(name))
    except MlflowException as error:
        created = client.get_experiment_by_name(name)  # by another run, between our question and our call
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or created is None:
            raise
        return created


def _tags(experiment_id: str, main_metric: str) -> dict[str, str]:
    view = view_address(experiment_id, main_metric)
    note = (
        f"Each row is one training with its scores on the test rows; the nested rows are its training curves and "
        f"its full evaluation. [Chart: {main_metric} against trained parameters and time]({view})"
    )
    return {
        KIND_TAG: MACHINE_LEARNING,
        MLFLOW_RUN_NOTE: note,
        MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME: f"test/{main_metric}",
        VIEW_TAG + _view_id(main_metric): _view(main_metric),
    }


def _view_id(main_metric: str) -> str:
    return f"tunesmith-{main_metric}"


def _view(main_metric: str) -> str:
    """Return a saved view with columns of the table and charts of score against cost.

    The format is that of MLflow's `savedViewEnvelope.ts` and `ExperimentPageUIState.tsx`; fields that are missing
    take their defaults, and what a later version does not understand is not shown.
    """
    score, section = f"test/{main_metric}", "tunesmith-score-against-cost"
    size, seconds, gain = _axis(TRAINED_PARAMETERS), _axis(SECONDS), _axis(score)
    charts = [
        _chart("SCATTER", section, f"{score} against trained parameters", xaxis=size, yaxis=gain),
        _chart("SCATTER", section, f"{score} against seconds of training", xaxis=seconds, yaxis=gain),
        _chart("BAR", section, score, metricKey=score),
        _chart("BAR", section, TRAINED_PARAMETERS, metricKey=TRAINED_PARAMETERS),
    ]
    sections = [
        {"uuid": section, "name": "Score against cost", "display": True, "isReordered": True, "isGenerated": False}
    ]
    columns = [
        *(f"attributes.`{name}`" for name in ("Models", "Dataset")),
        *(f"metrics.`{name}`" for name in (score, f"{score}/low", f"{score}/high", SECONDS)),
        *(f"params.`{name}`" for name in COLUMNS),
    ]
    state: dict[str, Any] = {
        "selectedColumns": columns,
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
    }
    envelope = {"name": f"{main_metric} against cost", "createdAt": int(time.time() * 1000), "state": json.dumps(state)}
    return json.dumps(envelope)


def _chart(kind: str, section: str, name: str, **fields: Any) -> dict[str, Any]:
    common = {"uuid": f"tunesmith {name}", "metricSectionId": section, "deleted": False, "isGenerated": False}
    return {"type": kind, "displayName": name, "runsCountToCompare": 100, **common, **fields}


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}
