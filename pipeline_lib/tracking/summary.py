"""The parent run in MLflow, which summarizes a training: base, data, scores and cost in one row.

Its children are the training and the evaluation, with the curves and all details. It is created when the training
starts, so that it can be found immediately, and completed with the scores.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from pipeline_lib.evaluation.report.tables import COLLAPSED_HINT, markdown_table, number
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.tracking.environment import flow_run
from pipeline_lib.tracking.experiment import COST, SECONDS, TRAINED_PARAMETERS, model_address, run_address, view_address
from pipeline_lib.tracking.pyfunc import link_model
from pipeline_lib.tracking.runs import KIND, MODEL, PARENT, Tracker, creation_time, log_params
from pipeline_lib.tracking.scores import scores_by_name
from pipeline_lib.tracking.throughput import training_seconds
from pipeline_lib.util.redaction import redact
from pipeline_lib.util.section import Section

WHOLE_RUN = "run"
"""The kind of the parent run of a training and its evaluation."""
LONGEST_NOTE = 8000
"""Maximum characters of a description; MLflow cuts off the rest."""


def begin_summary(tracker: Tracker, training: Run, tags: Mapping[str, str]) -> None:
    """Log the facts known at the start of a training to its parent run; `tags` are those of the training."""
    client, parent = tracker.client, training.data.tags[PARENT]
    log_params(tracker, parent, main_parameters(tracker.recipe))
    _copy_datasets(tracker, training.info.run_id, parent)
    note = "\n\n".join([headline(tracker.recipe), "Training is running.", _links(tracker, training)])
    all_tags = {**tags, KIND: WHOLE_RUN, MLFLOW_RUN_NOTE: note}
    client.log_batch(parent, tags=[RunTag(name, value) for name, value in all_tags.items()])


def end_summary(tracker: Tracker, training: Run, ending: str) -> None:
    """Write into the parent run's description why its training ended early."""
    note = "\n\n".join([headline(tracker.recipe), ending, _links(tracker, training)])
    tracker.client.set_tag(training.data.tags[PARENT], MLFLOW_RUN_NOTE, note)


def complete_summary(
    tracker: Tracker, training: Run, evaluation: Run, prepared: Artifact, model: Artifact, scores: Artifact
) -> None:
    """Log scores, cost and links to the parent run of an evaluation; safe to repeat after a kill."""
    client, parent = tracker.client, evaluation.data.tags[PARENT]
    summary, document = _read(model.folder / "summary.json"), _read(scores.folder / "metrics.json")
    rows = _read(prepared.folder / "report.json")["rows"]["train"]
    known = {
        "train_rows": rows,
        TRAINED_PARAMETERS: summary["trained_parameters"],
        "parameters": summary["parameters"],
        "precision": summary["precision"],
    }
    log_params(tracker, parent, main_parameters(tracker.recipe) | known)
    for run in (training, evaluation):
        _copy_datasets(tracker, run.info.run_id, parent)
    model_id = training.data.tags[MODEL].removeprefix("models:/")
    link_model(client, parent, model_id)
    created = creation_time(scores)
    figures = dict(_test_scores(document)) | dict(_costs(tracker.recipe, summary, model))
    metrics = [Metric(name, value, created, 0) for name, value in figures.items()]
    note = _finished_note(tracker, training, evaluation, document)
    source = {name: value for name, value in training.data.tags.items() if name.startswith("mlflow.source.")}
    tags = {**source, KIND: WHOLE_RUN, MLFLOW_RUN_NOTE: note[:LONGEST_NOTE]}
    client.log_batch(parent, metrics, tags=[RunTag(name, value) for name, value in tags.items()])


def main_parameters(recipe: Recipe) -> dict[str, Any]:
    """Return the main parameters under short names; the training run has every field of the recipe."""
    training = recipe.training
    return {
        "objective": recipe.objective.kind,
        "base": redact(recipe.model.base),
        "strategy": " + ".join(map(summarize_section, recipe.strategies)),
        "regularizers": " + ".join(map(summarize_section, recipe.regularizers)) or "none",
        "learning_rate": training.learning_rate,
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "seed": recipe.seed,
    }


def summarize_section(part: Section) -> str:
    """Format a strategy or a regularizer: its kind, and the fields that differ from their defaults."""
    fields = part.model_dump(mode="json", exclude_defaults=True)
    kind = fields.pop("kind")
    options = ", ".join(f"{name}={_value(value)}" for name, value in fields.items())
    return f"{kind} ({options})" if options else str(kind)


def headline(recipe: Recipe) -> str:
    """Return one sentence with the strategy, the base and the objective."""
    parameters = main_parameters(recipe)
    base = Path(parameters["base"])
    name = base.name if base.is_absolute() else base
    return f"`{parameters['strategy']}` on `{name}` for {recipe.objective.kind.replace('_', ' ')}."


def _finished_note(tracker: Tracker, training: Run, evaluation: Run, document: Mapping[str, Any]) -> str:
    main = tracker.recipe.objective.main_metric
    name = main if main in document["metrics"] else next(iter(document["metrics"]))  # a recipe may report others only
    score = document["metrics"][name]
    interval = f"{_interval(score)} at {document['level']:.0%}"
    sentence = f"**{name} {number(score['value'])}** ({interval}) on {document['rows']:,} test rows"
    parts = [
        f"{headline(tracker.recipe)} {sentence}.",
        *(
            [f"**The model has collapsed: {document['collapsed']}.** {COLLAPSED_HINT}"]
            if document.get("collapsed")
            else []
        ),
        _links(tracker, training, evaluation),
        _score_table(document),
        f"Run it again: `tunesmith reproduce {training.info.run_id}`",
    ]
    return "\n\n".join(parts)


def _score_table(document: Mapping[str, Any]) -> str:
    """Return a table of the metrics with intervals and baselines."""
    head = [
        "metric",
        "score",
        f"{document['level']:.0%} interval",
        *(name.replace("_", " ") for name in document["baselines"]),
    ]
    rows = [
        [
            name,
            number(score["value"]),
            _interval(score),
            *(number(baseline[name]["value"]) for baseline in document["baselines"].values()),
        ]
        for name, score in document["metrics"].items()
    ]
    return markdown_table(head, rows)


def _interval(score: Mapping[str, Any]) -> str:
    return f"{number(score['low'])} to {number(score['high'])}"


def _links(tracker: Tracker, training: Run, evaluation: Run | None = None) -> str:
    """Links to all that belongs to a run; those to MLflow's own pages hold whatever its address is."""
    experiment = tracker.experiment
    pages = {}
    if evaluation:
        pages["report"] = run_address(experiment, evaluation.info.run_id, "/artifacts/report.html")
    pages["training and its curves"] = run_address(experiment, training.info.run_id)
    if evaluation:
        pages["evaluation"] = run_address(experiment, evaluation.info.run_id)
    if model := training.data.tags.get(MODEL):
        pages["model"] = model_address(experiment, model)
    pages["compare in a chart"] = view_address(experiment, tracker.recipe.objective.main_metric)
    flow = flow_run(tracker.made_by)
    if flow and flow.page:
        pages[f"Prefect run {flow.name}"] = flow.page
    return " · ".join(f"[{name[0].upper()}{name[1:]}]({page})" for name, page in pages.items())


def _copy_datasets(tracker: Tracker, run_id: str, parent: str) -> None:
    """Give a run the data sets of one inside it; a data set that it has is not added again."""
    client = tracker.client
    known = {_key(dataset) for dataset in _datasets(client.get_run(parent))}
    missing = [dataset for dataset in _datasets(client.get_run(run_id)) if _key(dataset) not in known]
    if missing:
        client.log_inputs(parent, missing)


def _datasets(run: Run) -> Sequence[Any]:
    return run.inputs.dataset_inputs if run.inputs else []


def _key(given: Any) -> tuple[str, str]:
    return given.dataset.name, given.dataset.digest


def _test_scores(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Scores on all test rows with the ends of their intervals, named as in the evaluation's run."""
    yield from ((name, value) for name, value in scores_by_name(dict(document)) if name.startswith("test/"))


def _costs(recipe: Recipe, summary: Mapping[str, Any], model: Artifact) -> Iterator[tuple[str, float]]:
    yield TRAINED_PARAMETERS, summary["trained_parameters"]
    measured = model.made.get("measured")
    if not measured:
        return
    seconds, execution = training_seconds(measured), recipe.execution
    hours = seconds / 3600
    yield SECONDS, seconds
    if execution.cost_per_hour:
        yield COST, execution.cost_per_hour * hours
    if execution.watts:
        yield "training_energy_kwh", execution.watts / 1000 * hours


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
