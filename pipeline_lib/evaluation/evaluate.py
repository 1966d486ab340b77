"""The step `evaluate`: predictions of the test rows, scores with intervals, baselines, figures and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.data.prepared import load_split
from pipeline_lib.data.source_rows import with_files
from pipeline_lib.evaluation.answer_columns import answer_column
from pipeline_lib.evaluation.collapse import collapse_of
from pipeline_lib.evaluation.example_rows import examples
from pipeline_lib.evaluation.label_errors import suspect_rows
from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.predictions_file import in_groups, write_predictions
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.evaluation.report.figures import error_by_length, learning_curves
from pipeline_lib.evaluation.report.page import write_report
from pipeline_lib.evaluation.slices import row_lengths, sliced
from pipeline_lib.evaluation.statistics.bootstrap import FEWEST, bootstrap, rare_classes
from pipeline_lib.evaluation.statistics.power import effective_rows
from pipeline_lib.models.building import load_untrained
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.reference import with_reference
from pipeline_lib.training.validation import watched
from pipeline_lib.util.strict_json import finite, strict_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline_lib.evaluation.statistics.bootstrap import Score


def write_evaluation(
    recipe: Recipe, inputs: Inputs, columns: dict[str, list[str]], findings: list[dict[str, Any]], folder: Path
) -> None:
    """Write predictions.parquet, outcome.parquet, metrics.json, figures/*.png and report.html.

    Where rows have answers of their own also examples.parquet; for one label a row also suspects.parquet, unless the
    model has collapsed: its doubts say nothing of the labels. `inputs.initial` is the trained model's artifact,
    `columns` holds each test row's value of the columns that slices name, `findings` what the checks have found.
    """
    prepared, shards, base, finetuned, _, reference = inputs
    objective, split = recipe.objective, load_split(prepared, shards, "test", recipe.objective)
    if reference:
        split = split._replace(encoded=with_reference(split.encoded, reference, "test"))
    answerer = LoadedModel(finetuned / "model", base, recipe.execution.device)
    answered = answerer.read(split, write=any(metric.of_text for metric in _asked(recipe).values()))
    outcome: Any = in_groups(objective.metric_inputs(*answered), split)
    predictions = _predictions(objective, split.rows, objective.predictions(*answered))
    pq.write_table(predictions, folder / "predictions.parquet")
    write_predictions(outcome, split, objective.model_columns, folder)
    lengths = row_lengths(split.encoded, len(split.rows)) if objective.per_row else np.array([])
    figures = objective.figures(outcome, split.labels)
    errors = objective.row_errors(outcome)
    answers = predictions["prediction"].to_pylist() if "prediction" in predictions.column_names else []
    collapsed = collapse_of(outcome, answers, errors.error if errors else None)
    if errors:
        pq.write_table(examples(with_files(prepared, predictions, "test"), errors), folder / "examples.parquet")
        figures["error_by_length"] = error_by_length(lengths, errors)
    if isinstance(outcome, Predictions) and outcome.one_label and not collapsed:
        known = {"test": (split, outcome)} | _validated(objective, prepared, shards, answerer)
        pq.write_table(suspect_rows(prepared, known), folder / "suspects.parquet")
    _write_figures(recipe, figures, finetuned, folder / "figures")
    baselines = _taught(recipe, prepared, shards, split) | _untrained(recipe, base, finetuned, split)
    parts = sliced(recipe.evaluation.slices, lengths, columns)
    scores = _scores(recipe, outcome, split.labels, parts, baselines) | {"checks": findings}
    scores["collapsed"] = collapsed
    (folder / "metrics.json").write_text(strict_json(scores, indent=1, ensure_ascii=False), encoding="utf-8")
    write_report(recipe, scores, prepared, finetuned, folder)


def _scores(
    recipe: Recipe,
    outcome: Any,
    labels: list[str],
    slices: Mapping[str, np.ndarray],
    baselines: Mapping[str, Predictions | RowCounts],
) -> dict[str, Any]:
    """What metrics.json holds of a model's outcome, of the slices' rows in it, and of the baselines."""
    metrics, main = _asked(recipe), recipe.objective.metrics()[recipe.objective.main_metric]
    return {
        "level": recipe.evaluation.intervals,
        "rows": len(outcome),
        "groups": int(outcome.group_of_row.max(initial=-1)) + 1,
        "effective_rows": effective_rows(outcome, main, recipe.seed),
        "metrics": _score(recipe, outcome, metrics),
        "slices": [
            {"name": name, "rows": len(rows), "metrics": _score(recipe, outcome.take(rows), metrics)}
            for name, rows in slices.items()
        ],
        "notes": recipe.objective.notes(labels),
        "per_class": finite(recipe.objective.per_class(outcome, labels)),
        "baselines": {name: _score(recipe, _like(baseline, outcome), metrics) for name, baseline in baselines.items()},
    }


def _like(baseline: Predictions | RowCounts, outcome: Predictions | RowCounts) -> Predictions | RowCounts:
    """A baseline in the groups of the model's outcome, whose rows it answers."""
    return baseline if outcome.groups is None else baseline.in_groups(outcome.groups)


def _asked(recipe: Recipe) -> dict[str, Metric]:
    known = recipe.objective.metrics()
    return {name: known[name] for name in recipe.evaluation.metrics or known}


def _score(
    recipe: Recipe, outcome: Predictions | RowCounts, metrics: Mapping[str, Metric]
) -> dict[str, dict[str, Any]]:
    scores = bootstrap(outcome, metrics, recipe.evaluation.intervals, seed=recipe.seed)
    told = {name: _described(score, metrics[name]) for name, score in scores.items()}
    if few := rare_classes(outcome):
        why = f"{few:,} {'class has' if few == 1 else 'classes have'} fewer than {FEWEST} rows or groups"
        return {name: each | ({"no_interval": why} if metrics[name].by_class else {}) for name, each in told.items()}
    return told


def _described(score: "Score", metric: Metric) -> dict[str, Any]:
    return finite(score._asdict()) | {"meaning": metric.meaning, "higher_is_better": metric.higher_is_better}


def _predictions(objective: Objective, rows: pa.Table, answers: Mapping[str, list[Any]]) -> pa.Table:
    table = rows.select([name for name in rows.column_names if name not in ("key", *objective.model_columns)])
    for name, values in answers.items():
        table = table.append_column(name, answer_column(values))
    return table


def _validated(
    objective: Objective, prepared: Path, shards: Path, answerer: LoadedModel
) -> dict[str, tuple[SplitExamples, Predictions]]:
    """The validation rows with their outcome, where there are any."""
    split = load_split(prepared, shards, "validation", objective)
    if not len(split.rows):
        return {}
    outcome: Any = objective.metric_inputs(*answerer.read(split, write=False))
    return {"validation": (split, outcome)}


def _taught(recipe: Recipe, prepared: Path, shards: Path, test: SplitExamples) -> dict[str, Predictions | RowCounts]:
    """Baselines that learn from the training rows."""
    names = [name for name in recipe.evaluation.baselines if name != "untrained"]
    if not names:
        return {}  # and the training rows need not be read
    train = load_split(prepared, shards, "train", recipe.objective)
    return dict(recipe.objective.baselines(names, train, test))


def _untrained(recipe: Recipe, base: Path, finetuned: Path, test: SplitExamples) -> dict[str, Predictions | RowCounts]:
    """The model as it was before training."""
    if "untrained" not in recipe.evaluation.baselines:
        return {}
    folder = finetuned / "model"
    answerer = LoadedModel(folder, base, recipe.execution.device, load_untrained(folder, base, recipe.seed))
    write = any(metric.of_text for metric in _asked(recipe).values())
    return {"untrained": recipe.objective.metric_inputs(*answerer.read(test, write))}


def _write_figures(recipe: Recipe, figures: "dict[str, Figure]", finetuned: Path, folder: Path) -> None:
    import pandas as pd

    folder.mkdir()
    history = pd.read_parquet(finetuned / "history.parquet")
    metric, higher_is_better = watched(recipe)  # picks the checkpoint
    shown = history[history["metric"].isin(["loss", "learning_rate", metric])]
    curves = learning_curves(shown, {"loss": False, metric: higher_is_better})
    for name, figure in {"learning_curves": curves, **figures}.items():
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
