"""The step `evaluate`: predictions of the test rows, scores with intervals, baselines, figures and the report."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.dataset import Split, encoded_split
from pipeline_lib.evaluation.answer import Answerer
from pipeline_lib.evaluation.intervals import bootstrap
from pipeline_lib.evaluation.outcome import Metric, Outcome, Sums
from pipeline_lib.evaluation.outcome_file import write_outcome
from pipeline_lib.evaluation.report import write_report
from pipeline_lib.models.build import load_untrained
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe import Recipe

if TYPE_CHECKING:
    import pyarrow

    from pipeline_lib.evaluation.intervals import Score


def write_evaluation(recipe: Recipe, prepared: Path, shards: Path, base: Path, finetuned: Path, folder: Path) -> None:
    """Write predictions.parquet, outcome.parquet, metrics.json, figures/*.png and report.html."""
    objective, split = recipe.objective, encoded_split(prepared, shards, "test", recipe.objective)
    answered = Answerer(finetuned / "model", base, recipe.execution.device).read(split)
    outcome: Any = objective.outcome(*answered)
    metrics = _asked(recipe)
    _write_predictions(objective, split.rows, objective.answers(*answered), folder / "predictions.parquet")
    write_outcome(outcome, split, objective.hidden, folder)
    baselines = _taught(recipe, prepared, shards, split) | _untrained(recipe, base, finetuned, split)
    scores = {
        "level": recipe.evaluation.intervals,
        "rows": len(outcome),
        "metrics": _score(recipe, outcome, metrics),
        "per_class": _plain(objective.per_class(outcome, split.labels)),
        "baselines": {name: _score(recipe, baseline, metrics) for name, baseline in baselines.items()},
    }
    (folder / "metrics.json").write_text(
        json.dumps(scores, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
    )
    _write_figures(recipe, outcome, split.labels, finetuned, folder / "figures")
    write_report(recipe, scores, prepared, finetuned, folder)


def _asked(recipe: Recipe) -> dict[str, Metric]:
    known = recipe.objective.metrics()
    return {name: known[name] for name in recipe.evaluation.metrics or known}


def _score(recipe: Recipe, outcome: Outcome | Sums, metrics: Mapping[str, Metric]) -> dict[str, dict[str, Any]]:
    scores = bootstrap(outcome, metrics, recipe.evaluation.intervals, seed=recipe.seed)
    return {name: _described(score, metrics[name]) for name, score in scores.items()}


def _described(score: "Score", metric: Metric) -> dict[str, Any]:
    return _plain(score._asdict()) | {"meaning": metric.meaning, "higher_is_better": metric.higher_is_better}


def _plain(value: Any) -> Any:
    """nan as null: JSON has no nan."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_predictions(
    objective: Objective, rows: "pyarrow.Table", answers: Mapping[str, list[Any]], path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = rows.drop_columns(["key", *objective.hidden])
    for name, values in answers.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)


def _taught(recipe: Recipe, prepared: Path, shards: Path, test: Split) -> dict[str, Outcome | Sums]:
    """Baselines that learn from the training rows."""
    names = [name for name in recipe.evaluation.baselines if name != "untrained"]
    if not names:
        return {}  # and the training rows need not be read
    train = encoded_split(prepared, shards, "train", recipe.objective)
    return dict(recipe.objective.baselines(names, train, test))


def _untrained(recipe: Recipe, base: Path, finetuned: Path, test: Split) -> dict[str, Outcome | Sums]:
    """The model as it was before training."""
    if "untrained" not in recipe.evaluation.baselines:
        return {}
    folder = finetuned / "model"
    answerer = Answerer(folder, base, recipe.execution.device, load_untrained(folder, base, recipe.seed))
    return {"untrained": recipe.objective.outcome(*answerer.read(test))}


def _write_figures(recipe: Recipe, outcome: Any, labels: list[str], finetuned: Path, folder: Path) -> None:
    import pandas as pd

    from pipeline_lib.evaluation.figures import learning_curves

    folder.mkdir()
    history = pd.read_parquet(finetuned / "history.parquet")
    watched = ["loss", "learning_rate", recipe.objective.main_metric]
    curves = learning_curves(history[history["metric"].isin(watched)])
    for name, figure in {"learning_curves": curves, **recipe.objective.figures(outcome, labels)}.items():
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
