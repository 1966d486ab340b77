"""The step `evaluate`: predictions of the test rows, scores with intervals, baselines, figures and the report."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.data.prepared import load_split
from pipeline_lib.data.source_rows import add_source_files
from pipeline_lib.evaluation.answer_columns import answer_column
from pipeline_lib.evaluation.collapse import collapse_of
from pipeline_lib.evaluation.example_rows import examples
from pipeline_lib.evaluation.label_errors import suspect_rows
from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.predictions_file import assign_groups, write_predictions
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.evaluation.report.figures import error_by_length, learning_curves, save_figure
from pipeline_lib.evaluation.report.page import write_report
from pipeline_lib.evaluation.slices import row_lengths, select_slices
from pipeline_lib.evaluation.statistics.bootstrap import FEWEST, bootstrap, rare_classes
from pipeline_lib.evaluation.statistics.power import effective_rows
from pipeline_lib.models.building import load_untrained
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.reference import with_reference
from pipeline_lib.training.validation import selection_metric
from pipeline_lib.util.strict_json import finite, strict_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline_lib.evaluation.statistics.bootstrap import Score

log = logging.getLogger("tunesmith")


def write_evaluation(
    recipe: Recipe, inputs: Inputs, columns: dict[str, list[str]], findings: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Write predictions.parquet, outcome.parquet, metrics.json, figures/*.png and report.html.

    Objectives with one answer per row also get examples.parquet. Single-label objectives also get suspects.parquet,
    unless the model has collapsed: then its probabilities say nothing about the labels.

    Args:
        recipe: The recipe of the run.
        inputs: The artifacts to read; `inputs.initial` is the trained model's.
        columns: Values of the columns that slices refer to, one per test row.
        findings: What the step `checks` reported.
        folder: The artifact's folder.

    Returns:
        What the manifest keeps: with generated text, `generation` has its number of tokens and the seconds they took.
    """
    prepared, shards, base, finetuned, _, reference = inputs
    objective, split = recipe.objective, load_split(prepared, shards, "test", recipe.objective)
    if reference:
        split = split._replace(encoded=with_reference(split.encoded, reference, "test"))
    model = LoadedModel(finetuned / "model", base, recipe.execution.device)
    outputs = model.read(split, write=any(metric.of_text for metric in _selected_metrics(recipe).values()))
    facts = _describe_generation(model)
    outcome: Any = assign_groups(objective.metric_inputs(*outputs), split)
    predictions = _predictions(objective, split.rows, objective.predictions(*outputs))
    pq.write_table(predictions, folder / "predictions.parquet")
    write_predictions(outcome, split, objective.model_columns, folder)
    lengths = row_lengths(split.encoded, len(split.rows)) if objective.per_row else np.array([])
    figures = objective.figures(outcome, split.labels)
    errors = objective.row_errors(outcome)
    answers = predictions["prediction"].to_pylist() if "prediction" in predictions.column_names else []
    collapsed = collapse_of(outcome, answers, errors.error if errors else None)
    if errors:
        pq.write_table(examples(add_source_files(prepared, predictions, "test"), errors), folder / "examples.parquet")
        figures["error_by_length"] = error_by_length(lengths, errors)
    if isinstance(outcome, Predictions) and outcome.one_label and not collapsed:
        held_out = {"test": (split, outcome)} | _validation_predictions(objective, prepared, shards, model)
        pq.write_table(suspect_rows(prepared, held_out), folder / "suspects.parquet")
    _write_figures(recipe, figures, finetuned, folder / "figures")
    baselines = _fit_baselines(recipe, prepared, shards, split)
    baselines |= _untrained_baseline(recipe, base, finetuned, split)
    parts = select_slices(recipe.evaluation.slices, lengths, columns)
    scores = _scores(recipe, outcome, split.labels, parts, baselines) | {"checks": findings}
    scores["collapsed"] = collapsed
    (folder / "metrics.json").write_text(strict_json(scores, indent=1, ensure_ascii=False), encoding="utf-8")
    write_report(recipe, scores, prepared, finetuned, folder)
    return facts


def _describe_generation(model: LoadedModel) -> dict[str, Any]:
    """Log how fast the model generated, and return it for the manifest; empty if it generated nothing."""
    tokens, seconds = model.generation["tokens"], model.generation["seconds"]
    if not tokens:
        return {}
    log.info("%-11s %s tokens generated, %.0f per second", "evaluate", f"{tokens:,}", tokens / seconds)
    return {"generation": dict(model.generation)}


def _scores(
    recipe: Recipe,
    outcome: Any,
    labels: list[str],
    slices: Mapping[str, np.ndarray],
    baselines: Mapping[str, Predictions | RowCounts],
) -> dict[str, Any]:
    """The content of metrics.json: scores of the model, of its slices and of the baselines."""
    metrics, main = _selected_metrics(recipe), recipe.objective.metrics()[recipe.objective.main_metric]
    return {
        "level": recipe.evaluation.intervals,
        "rows": len(outcome),
        "groups": outcome.group_count,
        "effective_rows": effective_rows(outcome, main, recipe.seed),
        "metrics": _score(recipe, outcome, metrics),
        "slices": [
            {"name": name, "rows": len(rows), "metrics": _score(recipe, outcome.take(rows), metrics)}
            for name, rows in slices.items()
        ],
        "notes": recipe.objective.notes(labels),
        "per_class": finite(recipe.objective.per_class(outcome, labels)),
        "baselines": {
            name: _score(recipe, _copy_groups(baseline, outcome), metrics) for name, baseline in baselines.items()
        },
    }


def _copy_groups(baseline: Predictions | RowCounts, outcome: Predictions | RowCounts) -> Predictions | RowCounts:
    """The baseline with the row groups of the model's predictions, which are for the same rows."""
    return baseline if outcome.groups is None else baseline.with_groups(outcome.groups)


def _selected_metrics(recipe: Recipe) -> dict[str, Metric]:
    """The metrics that the recipe lists, or all metrics of the objective."""
    available = recipe.objective.metrics()
    return {name: available[name] for name in recipe.evaluation.metrics or available}


def _score(
    recipe: Recipe, outcome: Predictions | RowCounts, metrics: Mapping[str, Metric]
) -> dict[str, dict[str, Any]]:
    """One record per metric; metrics averaged over classes say why they have no interval if a class is too rare."""
    scores = bootstrap(outcome, metrics, recipe.evaluation.intervals, seed=recipe.seed)
    records = {name: _score_record(score, metrics[name]) for name, score in scores.items()}
    rare = rare_classes(outcome)
    if rare:
        reason = f"{rare:,} {'class has' if rare == 1 else 'classes have'} fewer than {FEWEST} rows or groups"
        for name, record in records.items():
            if metrics[name].by_class:
                record["no_interval"] = reason
    return records


def _score_record(score: "Score", metric: Metric) -> dict[str, Any]:
    return finite(score._asdict()) | {"meaning": metric.meaning, "higher_is_better": metric.higher_is_better}


def _predictions(objective: Objective, rows: pa.Table, answers: Mapping[str, list[Any]]) -> pa.Table:
    table = rows.select([name for name in rows.column_names if name not in ("key", *objective.model_columns)])
    for name, values in answers.items():
        table = table.append_column(name, answer_column(values))
    return table


def _validation_predictions(
    objective: Objective, prepared: Path, shards: Path, model: LoadedModel
) -> dict[str, tuple[SplitExamples, Predictions]]:
    """The validation rows with the model's predictions; empty without validation rows."""
    split = load_split(prepared, shards, "validation", objective)
    if not len(split.rows):
        return {}
    outcome: Any = objective.metric_inputs(*model.read(split, write=False))
    return {"validation": (split, outcome)}


def _fit_baselines(
    recipe: Recipe, prepared: Path, shards: Path, test: SplitExamples
) -> dict[str, Predictions | RowCounts]:
    """Baselines that are fitted on the training rows."""
    names = [name for name in recipe.evaluation.baselines if name != "untrained"]
    if not names:
        return {}  # avoids reading the training rows
    train = load_split(prepared, shards, "train", recipe.objective)
    return dict(recipe.objective.baselines(names, train, test))


def _untrained_baseline(
    recipe: Recipe, base: Path, finetuned: Path, test: SplitExamples
) -> dict[str, Predictions | RowCounts]:
    """Predictions of the model as it was before training."""
    if "untrained" not in recipe.evaluation.baselines:
        return {}
    folder = finetuned / "model"
    model = LoadedModel(folder, base, recipe.execution.device, load_untrained(folder, base, recipe.seed))
    write = any(metric.of_text for metric in _selected_metrics(recipe).values())
    return {"untrained": recipe.objective.metric_inputs(*model.read(test, write))}


def _write_figures(recipe: Recipe, figures: "dict[str, Figure]", finetuned: Path, folder: Path) -> None:
    import pandas as pd

    folder.mkdir()
    history = pd.read_parquet(finetuned / "history.parquet")
    metric, higher_is_better = selection_metric(recipe)  # the metric that selects the checkpoint
    shown = history[history["metric"].isin(["loss", "learning_rate", metric])]
    curves = learning_curves(shown, {"loss": False, metric: higher_is_better})
    for name, figure in {"learning_curves": curves, **figures}.items():
        save_figure(figure, folder / f"{name}.png")
